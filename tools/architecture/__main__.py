# SPDX-License-Identifier: MIT OR Apache-2.0
"""Draws the crates of the workspace and their modules, or checks that imports have no cycles.

    python3 tools/architecture [FILE.svg]   draws [default: docs/images/architecture.svg]
    python3 tools/architecture --check      prints import cycles; exit code 1 if there are any, or the picture is outdated
    python3 tools/architecture --imports    prints what each module imports

Crates and their dependencies are read from the Cargo.toml files, modules from the `mod` lines of a crate's root, and
imports from paths that begin with `crate`, `super` or `self`. A module and the modules in it count as one, and so do a
type's module and modules that only add `impl` blocks to it. A crate with a single module counts as that module. Tests
and entry points for fuzzing are left out. An item of a crate's root is attributed to the module that it is re-exported
from, or to the root itself.

A GObject class is a pair: `glib::wrapper!` in the root names the implementation's module, whose `ObjectSubclass::Type`
names the wrapper in turn. Such a root counts as part of that module; all other cycles through either are found.
"""

import sys
from pathlib import Path

from crates import ROOT, crates
from cycles import check
from drawing import draw


def main() -> int:
    arguments = sys.argv[1:]
    if arguments[:1] in (["-h"], ["--help"]) or len(arguments) > 1:
        print(__doc__)
        return 0 if len(arguments) == 1 else 2
    found = crates()
    picture = ROOT / "docs" / "images" / "architecture.svg"
    if arguments == ["--check"]:
        is_outdated = picture.read_text(encoding="utf-8") != draw(found)
        if is_outdated:
            print(f"{picture.relative_to(ROOT)} is outdated: run make architecture")
        return 1 if check(found) or is_outdated else 0
    if arguments == ["--imports"]:
        for crate in found:
            print(crate.title)
            for module, targets in crate.imports.items():
                print(f"  {module}: {', '.join(targets) or '-'}")
        return 0
    file = Path(arguments[0]) if arguments else picture
    file.write_text(draw(found), encoding="utf-8")
    return 0


if __name__ == "__main__":
    sys.exit(main())
