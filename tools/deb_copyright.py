#!/usr/bin/env python3
# SPDX-License-Identifier: MIT OR Apache-2.0
"""Write the licenses of everything in the Debian package.

    python3 tools/deb_copyright.py ONNXRUNTIME TARGET

ONNXRUNTIME is the directory with ONNX Runtime's LICENSE and ThirdPartyNotices.txt. Written are, into TARGET:

    copyright                       Debian's own format: nemostt and ONNX Runtime
    onnxruntime-notices.txt.gz      ONNX Runtime's notices of what is in it
    rust-crates.txt.gz              the license texts of all crates that are linked into the plugin and the command
    rust-library.html.gz            those of Rust's standard library, where the toolchain brings them
"""
import gzip
import json
import os
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
NAMES = ("license", "licence", "copying", "copyright", "notice", "unlicense")

COPYRIGHT = """\
Format: https://www.debian.org/doc/packaging-manuals/copyright-format/1.0/
Upstream-Name: nemostt
Comment: Rust crates are linked in; their licenses are in rust-crates.txt.gz, beside this file.

Files: *
Copyright: 2026 the nemostt developers
License: Expat or Apache-2.0

Files: usr/lib/*/nemostt/libonnxruntime.so.*
Copyright: Microsoft Corporation
License: Expat
Comment: What it contains of others is listed in onnxruntime-notices.txt.gz, beside this file.

License: Expat
{expat}

License: Apache-2.0
 On Debian systems, the text is in /usr/share/common-licenses/Apache-2.0.
"""


def output(*command):
    return subprocess.run(command, check=True, capture_output=True, text=True, cwd=ROOT).stdout


def linked_crates():
    """The packages from crates.io that are linked into the plugin or the command."""
    cargo = os.environ.get("CARGO", "cargo")
    host = next(line.split()[1] for line in output("rustc", "-vV").splitlines() if line.startswith("host:"))
    metadata = json.loads(
        output(cargo, "metadata", "--locked", "--format-version=1", "--features=cli", f"--filter-platform={host}")
    )
    packages = {package["id"]: package for package in metadata["packages"]}
    nodes = {node["id"]: node for node in metadata["resolve"]["nodes"]}

    def is_macro(package):
        return any("proc-macro" in target["kind"] for target in packages[package]["targets"])

    found, waiting = set(), [metadata["resolve"]["root"]]
    while waiting:
        package = waiting.pop()
        if package in found or is_macro(package):
            continue
        found.add(package)
        for dependency in nodes[package]["deps"]:
            # A dependency of no kind is neither for tests nor for build scripts.
            if any(kind["kind"] is None for kind in dependency["dep_kinds"]):
                waiting.append(dependency["pkg"])
    crates = [packages[package] for package in found if packages[package]["source"]]
    return sorted(crates, key=lambda crate: (crate["name"], crate["version"]))


def crate_licenses():
    """Every license text once, after the crates that have it."""
    crates, texts = linked_crates(), {}
    lines = ["Rust crates that are linked into nemostt, and their licenses.", ""]
    for crate in crates:
        label = f"{crate['name']} {crate['version']}"
        lines.append(f"{label}: {crate['license']}")
        for path in sorted(Path(crate["manifest_path"]).parent.iterdir()):
            if path.is_file() and path.name.lower().startswith(NAMES):
                text = path.read_text(encoding="utf-8", errors="replace").strip()
                texts.setdefault(text, []).append(label)
    for text, labels in texts.items():
        lines += ["", "-" * 80, ", ".join(labels), "-" * 80, "", text]
    return "\n".join(lines) + "\n"


def debian(text):
    """Lines as a field of a Debian control file has them."""
    return "\n".join(" " + (line.rstrip() or ".") for line in text.strip().splitlines())


def main(runtime, target):
    target.mkdir(parents=True, exist_ok=True)

    def write_compressed(name, data):
        (target / f"{name}.gz").write_bytes(gzip.compress(data, mtime=0))

    # All after the title and the line that says whose it is.
    expat = (runtime / "LICENSE").read_text(encoding="utf-8").split("\n\n", 2)[2]
    ours = (ROOT / "LICENSE-MIT").read_text(encoding="utf-8").split("\n\n", 2)[2]
    if expat.split() != ours.split():
        sys.exit("ONNX Runtime has another license than Expat: write it down in tools/deb_copyright.py")
    (target / "copyright").write_text(COPYRIGHT.format(expat=debian(ours)), encoding="utf-8")
    write_compressed("onnxruntime-notices.txt", (runtime / "ThirdPartyNotices.txt").read_bytes())
    write_compressed("rust-crates.txt", crate_licenses().encode())
    library = Path(output("rustc", "--print", "sysroot").strip()) / "share/doc/rust/COPYRIGHT-library.html"
    if library.is_file():
        write_compressed("rust-library.html", library.read_bytes())


if __name__ == "__main__":
    if len(sys.argv) != 3:
        sys.exit(__doc__)
    main(Path(sys.argv[1]), Path(sys.argv[2]))
