#!/usr/bin/env python3
# SPDX-License-Identifier: MIT OR Apache-2.0
"""Checks the documents: paths in backticks and link targets exist, and so do the items ("`Session::tick` in
`session/tick.rs`"), make targets, properties and passes that they name. Prints what is wrong; the exit code is 1 if
anything is.

    tools/check_docs.py [FILE.md ...]     [default: README.md, CONTRIBUTING.md and docs]

A path is one of the repository, or the end of one: `model/encoder.rs` is found as crates/nemostt/src/model/encoder.rs.
"""

import re
import subprocess
import sys
from pathlib import Path
from urllib.parse import unquote

ROOT = Path(__file__).resolve().parent.parent
# Endings of source files. Files of models have others.
SOURCE = (".rs", ".py", ".sh", ".toml", ".lock", ".proto", ".svg", ".md", ".build")
# Media types and other names that look like paths below a folder of the sources.
NO_PATHS = {"text/x-raw", "nemostt/graphs", "nemostt/finish", "nemostt/excessive-delay", "nemostt/remote"}
# These are made by builds and exports.
GENERATED = ("target/", "models/")


def main() -> int:
    documents = [Path(name).resolve() for name in sys.argv[1:]] or [
        ROOT / "README.md",
        ROOT / "CONTRIBUTING.md",
        *sorted((ROOT / "docs").rglob("*.md")),
    ]
    files = tracked()
    problems = []
    for document in documents:
        text = document.read_text(encoding="utf-8")
        for line, problem in [*paths(text, files), *links(document, text), *items(text, files), *targets(text)]:
            problems.append(f"{document.relative_to(ROOT)}:{line}: {problem}")
    problems += unnamed("docs/element.md", "property", properties())
    problems += unnamed("docs/design.md", "pass", passes())
    print("\n".join(problems) or f"check_docs: {len(documents)} documents are consistent")
    return 1 if problems else 0


def tracked() -> set[str]:
    """Files of the repository and their folders."""
    command = ["git", "-C", ROOT, "ls-files", "--cached", "--others", "--exclude-standard"]
    listed = subprocess.run(command, capture_output=True, text=True)
    names = listed.stdout.splitlines()
    # A source package is no git repository.
    if listed.returncode != 0:
        names = [str(path.relative_to(ROOT)) for path in ROOT.rglob("*") if "target" not in path.parts]
    files = {name for name in names if (ROOT / name).is_file()}
    folders = {str(folder) for name in files for folder in Path(name).parents}
    return files | folders


def prose(text: str) -> list[tuple[int, str]]:
    """Lines outside of code blocks, with their numbers."""
    lines, in_code = [], False
    for number, line in enumerate(text.split("\n"), 1):
        if line.startswith("```"):
            in_code = not in_code
        elif not in_code:
            lines.append((number, line))
    return lines


def paths(text: str, files: set[str]) -> list[tuple[int, str]]:
    folders = {Path(name).name for name in files if not (ROOT / name).is_file()}
    top = {name for name in files if "/" not in name}
    found = []
    for number, line in prose(text):
        for token in re.findall(r"`([\w./-]+)`", line):
            path = token.rstrip("/")
            first = path.split("/")[0]
            is_path = path.endswith(SOURCE) or token.endswith("/") or ("/" in token and first in folders)
            if not is_path or token in NO_PATHS or token.startswith((*GENERATED, "/")):
                continue
            # A folder of the repository's root begins a whole path.
            is_whole = first in top and "/" in path and first != "src"
            exists = path in files or not is_whole and any(name.endswith(f"/{path}") for name in files)
            if not exists:
                found.append((number, f"`{token}` does not exist"))
    return found


def links(document: Path, text: str) -> list[tuple[int, str]]:
    found = []
    for number, line in prose(text):
        for target in re.findall(r"\]\(([^)\s]+)\)", line):
            if re.match(r"[a-z]+:", target):
                continue
            name, _, anchor = unquote(target).partition("#")
            file = (document.parent / name).resolve() if name else document
            if not file.exists():
                found.append((number, f"link to {target}: there is no such file"))
            elif anchor and file.suffix == ".md" and anchor not in anchors(file):
                found.append((number, f"link to {target}: there is no such heading"))
    return found


def anchors(file: Path) -> set[str]:
    """The anchors of a document's headings, as GitHub makes them."""
    found = set()
    for _, line in prose(file.read_text(encoding="utf-8")):
        if match := re.match(r"#+\s+(.*)", line):
            text = re.sub(r"\[([^\]]*)\]\([^)]*\)", r"\1", match.group(1)).strip().lower()
            anchor = re.sub(r"[^\w\- ]", "", text).replace(" ", "-")
            number = 0
            while (unique := f"{anchor}-{number}" if number else anchor) in found:
                number += 1
            found.add(unique)
    return found


def items(text: str, files: set[str]) -> list[tuple[int, str]]:
    """Items that are said to be in a file, and are not."""
    # One item or several, in a path or a link.
    sentence = re.compile(r"(`[\w:]+`(?:(?:, | and )`[\w:]+`)*) in (?:\[[^\]]*\]\(|`)(?:\.\./)*([\w./-]+\.rs)\b")
    found = []
    for number, line in prose(text):
        for names, path in sentence.findall(line):
            sources = [name for name in files if name == path or name.endswith(f"/{path}")]
            code = "".join((ROOT / name).read_text(encoding="utf-8") for name in sources)
            for item in re.findall(r"`([\w:]+)`", names):
                kinds = "const|enum|fn|mod|static|struct|trait|type"
                if not all(re.search(rf"\b{part}\b", code) for part in item.split("::")) or not re.search(
                    rf"\b({kinds}) {item.split('::')[-1]}\b", code
                ):
                    found.append((number, f"`{item}` is not in {path}"))
    return found


def targets(text: str) -> list[tuple[int, str]]:
    known = set(re.findall(r"^([a-z-]+):", (ROOT / "Makefile").read_text(encoding="utf-8"), re.MULTILINE))
    return [
        (number, f"there is no `make {target}`")
        for number, line in prose(text)
        for target in re.findall(r"`make ([a-z-]+)", line)
        if target not in known
    ]


def properties() -> list[str]:
    text = (ROOT / "docs" / "inspect.txt").read_text(encoding="utf-8")
    return re.findall(r"^([a-z-]+): \w+, .*(?:changeable|read-only|read only)", text, re.MULTILINE)


def passes() -> list[str]:
    text = (ROOT / "crates" / "nemostt-compiler" / "src" / "pipeline.rs").read_text(encoding="utf-8")
    lists = text[text.index("pub const SPECIALIZE") :]
    # A `Pass` has a name; those of the other lists are constants.
    return re.findall(r'(?:name: |: &str = )"([a-z0-9-]+)"', lists)


def unnamed(document: str, kind: str, names: list[str]) -> list[str]:
    text = (ROOT / document).read_text(encoding="utf-8")
    if not names:
        return [f"{document}: no {kind} was found in the source"]
    return [f"{document}: {kind} `{name}` is missing" for name in names if f"`{name}`" not in text]


if __name__ == "__main__":
    sys.exit(main())
