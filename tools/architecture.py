#!/usr/bin/env python3
# SPDX-License-Identifier: MIT OR Apache-2.0
"""Draws the crates of the workspace and their modules, or checks that imports have no cycles.

    tools/architecture.py [FILE.svg]      draws [default: docs/images/architecture.svg]
    tools/architecture.py --check         prints import cycles; the exit code is 1 if there are any
    tools/architecture.py --imports       prints what each module imports

Crates and their dependencies are read from the Cargo.toml files, modules from the `mod` lines of a crate's root, and
imports from paths that begin with `crate`, `super` or `self`. A crate with a single module counts as that module. Tests
and entry points for fuzzing are left out. An item of a crate's root is attributed to the module that it is re-exported
from, or to the root itself.

A GObject class is a pair: `glib::wrapper!` in the root names the implementation's module, whose `ObjectSubclass::Type`
names the wrapper in turn. Such a root counts as part of that module; all other cycles through either are found.
"""

import html
import re
import sys
from dataclasses import dataclass, field
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
COMMAND = "src/bin/nemostt/main.rs"
# Dependencies that are shown, with their names.
EXTERNAL = {"gst": "GStreamer", "ort": "ONNX Runtime"}


# ---- Reading ----


@dataclass
class Crate:
    name: str
    root: Path
    title: str
    dependencies: list[str] = field(default_factory=list)
    external: list[str] = field(default_factory=list)
    # Imports of each module, with where they are: {module: {imported module: ["file:line item"]}}.
    imports: dict[str, dict[str, list[str]]] = field(default_factory=dict)


def crates() -> list[Crate]:
    manifests = [ROOT / "Cargo.toml", *sorted((ROOT / "crates").glob("*/Cargo.toml"))]
    found = {}
    for manifest in manifests:
        text = manifest.read_text(encoding="utf-8")
        name = re.search(r'^\[package\]\nname = "(.+)"', text, re.MULTILINE).group(1)
        keys = re.findall(r"^([\w-]+)(?=[ .])", section(text, "dependencies"), re.MULTILINE)
        found[name] = (manifest, keys)
    result = []
    for name, (manifest, keys) in found.items():
        crate = Crate(name, manifest.parent / "src" / "lib.rs", f"crate {name}")
        crate.dependencies = [key for key in keys if key in found]
        crate.external = [shown for key, shown in EXTERNAL.items() if key in keys]
        result.append(crate)
    plugin = result[0]
    plugin.title += ": the element"
    # The command is a program of the plugin's package. It imports what its sources name.
    command = Crate("command", ROOT / COMMAND, "command nemostt")
    text = "".join(clean(path.read_text(encoding="utf-8")) for path in command.root.parent.rglob("*.rs"))
    names = {crate.root: crate.name.replace("-", "_") for crate in result[1:]}
    command.dependencies = [crate.name for crate in result[1:] if re.search(rf"\b{names[crate.root]}::", text)]
    command.external = [shown for key, shown in EXTERNAL.items() if re.search(rf"\b{key}(_\w+)?::", text)]
    result.insert(1, command)
    for crate in result:
        crate.imports = read_imports(crate.root)
    return result


def section(text: str, name: str) -> str:
    match = re.search(rf"^\[{name}\]\n(.*?)(?=^\[|\Z)", text, re.MULTILINE | re.DOTALL)
    return match.group(1) if match else ""


def read_imports(root: Path) -> dict[str, dict[str, list[str]]]:
    prefix = []
    text = clean(root.read_text(encoding="utf-8"))
    modules = declared(text)
    # A crate of a single module is that module.
    while len(modules) == 1:
        prefix.append(modules[0])
        root = next(path for path in module_files(root, modules[0]) if path.stem in ("mod", modules[0]))
        text = clean(root.read_text(encoding="utf-8"))
        modules = declared(text)
    exports = reexports(text, modules)
    # main.rs only calls what is in modules.
    root_name = None if root.name == "main.rs" else implementation(text, modules) or root.name
    imports = {module: {} for module in modules}
    for module in modules:
        for path in module_files(root, module):
            where = [*prefix, *module_path(root.parent, path)]
            for line, target in paths(path, where):
                if target[: len(prefix)] != prefix:
                    continue
                target = target[len(prefix) :]
                if not target:
                    continue
                name = target[0] if target[0] in modules else exports.get(target[0], root_name)
                if name and name != module:
                    item = "::".join(part for part in target if part != "self")
                    place = f"{path.relative_to(ROOT)}:{line} {item}"
                    imports[module].setdefault(name, []).append(place)
    # The root is a module if others use what is defined in it.
    if root_name in modules or any(root_name in targets for targets in imports.values()):
        body = re.sub(r"^\s*(pub(\([^)]*\))?\s+)?(use|mod)\b[^;{]*(\{[^;]*\})?;", blank, text, flags=re.MULTILINE)
        own = imports.setdefault(root_name, {})
        for line, code in enumerate(body.split("\n"), 1):
            for module in modules:
                uses_item = any(re.search(rf"\b{item}\b", code) for item, source in exports.items() if source == module)
                if module != root_name and (re.search(rf"\b{module}::", code) or uses_item):
                    own.setdefault(module, []).append(f"{root.relative_to(ROOT)}:{line}")
    return imports


def implementation(text: str, modules: list[str]) -> str | None:
    """The module that implements the class whose `glib::wrapper!` is in `text`."""
    match = re.search(r"\bglib::wrapper!\s*\{[^{}]*\(ObjectSubclass<(\w+)::\w+>\)", text)
    return match.group(1) if match and match.group(1) in modules else None


def declared(text: str) -> list[str]:
    return re.findall(r"^(?:pub(?:\([^)]*\))?\s+)?mod\s+(\w+);", text, re.MULTILINE)


def module_files(root: Path, module: str) -> list[Path]:
    file, folder = root.parent / f"{module}.rs", root.parent / module
    found = [file] if file.exists() else []
    return found + [path for path in sorted(folder.rglob("*.rs")) if not is_test(path.relative_to(folder))]


def is_test(path: Path) -> bool:
    return any(part in ("tests", "tests.rs", "fuzzing.rs", "property_tests.rs") for part in path.parts)


def module_path(folder: Path, file: Path) -> list[str]:
    parts = list(file.relative_to(folder).with_suffix("").parts)
    return parts[:-1] if parts[-1] == "mod" else parts


def clean(text: str) -> str:
    """Rust without comments, strings and tests; lines stay where they are."""
    text = re.sub(
        r'//[^\n]*|/\*.*?\*/|b?r(#*)".*?"\1|b?"(?:\\.|[^"\\])*"|b?\'(?:\\[^\n]{1,8}?|[^\'\\\n])\'(?!\w)',
        lambda match: blank(match) if match.group()[0] == "/" else '""' + blank(match),
        text,
        flags=re.DOTALL,
    )
    while match := re.search(r'#\[cfg\((?:any\(|all\()?\s*(?:test\b|fuzzing\b|feature\s*=\s*""\s*\)\]\s*#\[doc)', text):
        end = item_end(text, match.start())
        text = text[: match.start()] + "\n" * text.count("\n", match.start(), end) + text[end:]
    return text


def blank(match: re.Match) -> str:
    return "\n" * match.group().count("\n")


def item_end(text: str, start: int) -> int:
    """Where the item ends that begins with attributes at `start`: at its `;`, or at the end of its braces."""
    depth, position = 0, start
    while position < len(text):
        character = text[position]
        if character in "([{":
            depth += 1
        elif character in ")]}":
            depth -= 1
            if depth == 0 and character == "}":
                return position + 1
        elif character in ";," and depth == 0:
            return position + 1
        position += 1
    return position


def uses(text: str) -> list[tuple[int, list[str], str]]:
    """The paths of all `use` items, each with its line and its visibility."""
    found = []
    for match in re.finditer(r"^[ \t]*(pub(?:\([^)]*\))?\s+)?use\s+([^;]+);", text, re.MULTILINE):
        line = text.count("\n", 0, match.start()) + 1
        found += [(line, path, match.group(1) or "") for path in expand(match.group(2))]
    return found


def expand(tree: str) -> list[list[str]]:
    """The paths of a tree such as `a::{b, c::d as e}`."""
    tree = tree.strip()
    if "{" not in tree:
        name = re.split(r"\s+as\s+", tree)
        path = [part.strip() for part in name[0].split("::") if part.strip()]
        return [path] if path else []
    before, inner = tree.split("{", 1)
    inner = inner[: inner.rindex("}")]
    start = [part.strip() for part in before.split("::") if part.strip()]
    parts, depth, current = [], 0, ""
    for character in inner + ",":
        if character == "," and depth == 0:
            parts.append(current)
            current = ""
            continue
        depth += (character == "{") - (character == "}")
        current += character
    return [start + path for part in parts for path in expand(part)]


def paths(file: Path, where: list[str]) -> list[tuple[int, list[str]]]:
    """Absolute paths within the crate that `file`, which is module `where`, names."""
    text = clean(file.read_text(encoding="utf-8"))
    found = [(line, path) for line, path, _ in uses(text)]
    code = re.sub(r"^[ \t]*(pub(\([^)]*\))?\s+)?use\s+[^;]+;", blank, text, flags=re.MULTILINE)
    code = re.sub(r"\bpub\s*\([^)]*\)", "", code)
    for match in re.finditer(r"\b(?:crate|super)(?:::\w+)+", code):
        found.append((code.count("\n", 0, match.start()) + 1, match.group().split("::")))
    result = []
    for line, path in found:
        if path[0] == "crate":
            result.append((line, path[1:]))
        elif path[0] in ("super", "self"):
            base = list(where)
            while path and path[0] in ("super", "self"):
                if path[0] == "super":
                    base = base[:-1]
                path = path[1:]
            result.append((line, base + path))
    return result


def reexports(text: str, modules: list[str]) -> dict[str, str]:
    """The items of a root that come from one of its modules."""
    result = {}
    for _, path, _ in uses(text):
        path = path[1:] if path[0] in ("self", "crate") else path
        if len(path) > 1 and path[0] in modules:
            name = path[-2] if path[-1] == "self" else path[-1]
            result[name] = path[0]
    return result


# ---- Cycles ----

# Imports that are printed of one module by another.
SHOWN = 3


def components(graph: dict[str, dict]) -> list[list[str]]:
    """Strongly connected components, those that others import first (Tarjan)."""
    index, low, stack, result = {}, {}, [], []

    def visit(node: str) -> None:
        index[node] = low[node] = len(index)
        stack.append(node)
        for target in graph[node]:
            if target not in index:
                visit(target)
                low[node] = min(low[node], low[target])
            elif target in stack:
                low[node] = min(low[node], index[target])
        if low[node] == index[node]:
            result.append(stack[stack.index(node) :])
            del stack[stack.index(node) :]

    for node in graph:
        if node not in index:
            visit(node)
    return result


def cycles(graph: dict[str, dict]) -> list[list[str]]:
    return [sorted(part) for part in components(graph) if len(part) > 1]


def check(all_crates: list[Crate]) -> int:
    count = 0
    known = {crate.name for crate in all_crates}
    between = {crate.name: {name: "" for name in crate.dependencies if name in known} for crate in all_crates}
    for part in cycles(between):
        count += 1
        print(f"crates depend on each other: {', '.join(part)}")
    for crate in all_crates:
        for part in cycles(crate.imports):
            count += 1
            print(f"{crate.title}: {', '.join(part)} import each other")
            for module in part:
                for target, places in sorted(crate.imports[module].items()):
                    if target in part:
                        more = f", and {len(places) - SHOWN} more" if len(places) > SHOWN else ""
                        print(f"  {module} → {target}: {', '.join(places[:SHOWN])}{more}")
    print("no import cycles" if count == 0 else f"{count} import cycle{'s' if count > 1 else ''}")
    return 1 if count else 0


# ---- Drawing ----

# Pixels.
CHARACTER, CHIP, GAP, ROW, PAD, TITLE = 7.3, 26, 12, 48, 16, 30
WIDTH, BETWEEN, MARGIN = 980, 44, 24
STYLE = """
    text { font: 12.5px "DejaVu Sans", Verdana, sans-serif; fill: #24292f; }
    .title { font-weight: bold; font-size: 13.5px; }
    .crate { fill: #f6f8fa; stroke: #8c959f; }
    .module { fill: #ffffff; stroke: #57606a; }
    .external { fill: #ddf4ff; stroke: #54aeff; }
    .depends { fill: none; stroke: #24292f; stroke-width: 1.8; marker-end: url(#head); }
    .import { fill: none; stroke: #8c959f; stroke-width: 0.9; }
    .cycle { fill: #fff8f7; stroke: #cf222e; stroke-width: 1.1; stroke-dasharray: 4 3; }
"""


def layers(graph: dict[str, dict]) -> list[list[list[str]]]:
    """Rows of components: each imports from rows below only."""
    parts = components(graph)
    part_of = {node: number for number, part in enumerate(parts) for node in part}
    level = []
    # Components come after those that they import.
    for number, part in enumerate(parts):
        below = [level[part_of[target]] for node in part for target in graph[node] if part_of[target] != number]
        level.append(max(below, default=-1) + 1)
    order = list(graph)
    rows = [[] for _ in range(max(level, default=-1) + 1)]
    for part, height in zip(parts, level):
        rows[height].append(sorted(part, key=order.index))
    return [sorted(row, key=lambda part: order.index(part[0])) for row in rows[::-1]]


def essential(graph: dict[str, dict]) -> list[tuple[str, str]]:
    """Imports between components, without those that follow from others: transitive reduction."""
    parts = components(graph)
    part_of = {node: number for number, part in enumerate(parts) for node in part}
    direct, reach = [], []
    for number, part in enumerate(parts):
        edges = {}
        for node in part:
            for target in graph[node]:
                if part_of[target] != number:
                    edges.setdefault(part_of[target], (node, target))
        direct.append(edges)
        reach.append(set(edges).union(*(reach[target] for target in edges)))
    return [
        edge
        for edges in direct
        for target, edge in edges.items()
        if not any(target in reach[other] for other in edges if other != target)
    ]


@dataclass
class Box:
    x: float
    y: float
    width: float
    height: float
    parts: list[str]


def chip_width(module: str) -> float:
    return len(module) * CHARACTER + 18


def broken(modules: list[str], width: float) -> list[list[str]]:
    """Rows of modules that fit into a width."""
    rows, used = [[]], 0.0
    for module in modules:
        if rows[-1] and used + chip_width(module) > width:
            rows.append([])
            used = 0.0
        rows[-1].append(module)
        used += chip_width(module) + GAP
    return rows


def draw_crate(crate: Crate, x: float, y: float, width: float) -> Box:
    places, chips, frames = {}, [], []
    top = y + TITLE
    for layer in layers(crate.imports):
        single = [part[0] for part in layer if len(part) == 1]
        for modules in [part for part in layer if len(part) > 1] + ([single] if single else []):
            is_cycle = modules is not single
            if is_cycle:
                top += 6
            first, left_most, right_most = top, x + width, x
            for row in broken(modules, width - 4 * PAD):
                left = x + (width - sum(map(chip_width, row)) - GAP * (len(row) - 1)) / 2
                left_most = min(left_most, left)
                for module in row:
                    size = chip_width(module)
                    places[module] = (left, top, size)
                    chips.append(
                        f'<rect class="module" x="{left:.1f}" y="{top:.1f}" width="{size:.1f}" height="{CHIP}" rx="5"/>'
                        f'<text x="{left + size / 2:.1f}" y="{top + 17.5:.1f}" text-anchor="middle">'
                        f"{html.escape(module)}</text>"
                    )
                    left += size + GAP
                right_most = max(right_most, left - GAP)
                top += CHIP + GAP
            if is_cycle:
                frames.append(
                    f'<rect class="cycle" x="{left_most - 8:.1f}" y="{first - 8:.1f}" '
                    f'width="{right_most - left_most + 16:.1f}" height="{top - GAP - first + 16:.1f}" rx="8"/>'
                )
                top += 6
            top += ROW - CHIP - GAP
    lines = []
    for module, target in essential(crate.imports):
        (x1, y1, w1), (x2, y2, w2) = places[module], places[target]
        x1, y1, x2 = x1 + w1 / 2, y1 + CHIP, x2 + w2 / 2
        bend = f"C {x1:.1f} {y1 + 18:.1f} {x2:.1f} {y2 - 18:.1f}"
        lines.append(f'<path class="import" d="M {x1:.1f} {y1:.1f} {bend} {x2:.1f} {y2:.1f}"/>')
    height = top - (ROW - CHIP) + PAD - y
    frame = [
        f'<rect class="crate" x="{x}" y="{y}" width="{width}" height="{height}" rx="8"/>',
        f'<text class="title" x="{x + PAD}" y="{y + 20}">{html.escape(crate.title)}</text>',
    ]
    return Box(x, y, width, height, frame + frames + lines + chips)


def draw(all_crates: list[Crate]) -> str:
    by_name = {crate.name: crate for crate in all_crates}
    graph = {crate.name: {name: "" for name in crate.dependencies} for crate in all_crates}
    boxes, y = {}, float(MARGIN)
    # Room at the left for arrows that pass a crate, at the right for what is external.
    left, right = MARGIN + 24, 150
    rows = [[name for part in layer for name in part] for layer in layers(graph)]
    for layer in rows:
        width = (WIDTH - left - right - MARGIN - GAP * (len(layer) - 1)) / len(layer)
        for number, name in enumerate(layer):
            boxes[name] = draw_crate(by_name[name], left + number * (width + GAP), y, width)
        y = max(boxes[name].y + boxes[name].height for name in layer) + BETWEEN
    parts = [part for box in boxes.values() for part in box.parts]
    row_of = {name: number for number, layer in enumerate(rows) for name in layer}
    for name in row_of:
        for target in by_name[name].dependencies:
            source, other = boxes[name], boxes[target]
            if row_of[target] - row_of[name] == 1:
                x = source.x + source.width / 2
                parts.append(f'<path class="depends" d="M {x} {source.y + source.height} V {other.y - 2}"/>')
            else:
                y1, y2 = source.y + source.height / 2, other.y + other.height / 2
                x = left - 20
                parts.append(f'<path class="depends" d="M {source.x} {y1} H {x} V {y2} H {other.x - 2}"/>')
    size = 122
    for shown in EXTERNAL.values():
        users = [boxes[crate.name] for crate in all_crates if shown in crate.external]
        if not users:
            continue
        x, middle = WIDTH - MARGIN - size, min(box.y + box.height / 2 for box in users)
        parts.append(
            f'<rect class="external" x="{x}" y="{middle - 20}" width="{size}" height="40" rx="8"/>'
            f'<text x="{x + size / 2}" y="{middle + 4.5}" text-anchor="middle">{html.escape(shown)}</text>'
        )
        # Boxes of one row share an arrow, from the last of them.
        last = max(users, key=lambda box: box.x)
        parts.append(f'<path class="depends" d="M {last.x + last.width} {middle} H {x - 2}"/>')
    height = y - BETWEEN + MARGIN + 26
    legend = height - 16
    parts.append(
        f'<path class="import" d="M {left} {legend - 4} h 30"/><text x="{left + 38}" y="{legend}">'
        "a module imports one below, and what that imports</text>"
    )
    if any(cycles(crate.imports) for crate in all_crates):
        x = left + 400
        parts.append(
            f'<rect class="cycle" x="{x}" y="{legend - 13}" width="30" height="17" rx="5"/>'
            f'<text x="{x + 38}" y="{legend}">modules that import each other</text>'
        )
    body = "\n".join(f"  {part}" for part in parts)
    size = f'width="{WIDTH}" height="{height:.0f}"'
    return f"""<svg xmlns="http://www.w3.org/2000/svg" {size} viewBox="0 0 {WIDTH} {height:.0f}">
  <title>Crates and modules of nemostt</title>
  <style>{STYLE}  </style>
  <defs>
    <marker id="head" markerWidth="8" markerHeight="8" refX="6" refY="3" orient="auto">
      <path d="M 0 0 L 7 3 L 0 6 z" fill="#24292f"/>
    </marker>
  </defs>
  <rect {size} fill="#ffffff"/>
{body}
</svg>
"""


def main() -> int:
    arguments = sys.argv[1:]
    if arguments[:1] in (["-h"], ["--help"]) or len(arguments) > 1:
        print(__doc__)
        return 0 if len(arguments) == 1 else 2
    found = crates()
    if arguments == ["--check"]:
        return check(found)
    if arguments == ["--imports"]:
        for crate in found:
            print(crate.title)
            for module, targets in crate.imports.items():
                print(f"  {module}: {', '.join(targets) or '-'}")
        return 0
    file = Path(arguments[0]) if arguments else ROOT / "docs" / "images" / "architecture.svg"
    file.write_text(draw(found), encoding="utf-8")
    return 0


if __name__ == "__main__":
    sys.exit(main())
