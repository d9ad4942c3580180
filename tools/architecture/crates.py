# SPDX-License-Identifier: MIT OR Apache-2.0
"""Reads crates, their modules and imports."""

import re
from dataclasses import dataclass, field
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent.parent
COMMAND = "src/bin/nemostt/main.rs"
# Dependencies that are shown, with their names.
EXTERNAL = {"gst": "GStreamer", "ort": "ONNX Runtime"}


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
    files = {module: module_files(root, module) for module in modules}
    owner = {module: module for module in modules}
    for module, paths_of in files.items():
        owner[module] = extended(paths_of[0], [*prefix, module], modules) or module
    imports = {owner[module]: {} for module in modules}
    for module in modules:
        for path in files[module]:
            where = [*prefix, *module_path(root.parent, path)]
            for line, target in paths(path, where):
                if target[: len(prefix)] != prefix:
                    continue
                target = target[len(prefix) :]
                if not target:
                    continue
                name = target[0] if target[0] in modules else exports.get(target[0], root_name)
                name = owner.get(name, name)
                if name and name != owner[module]:
                    item = "::".join(part for part in target if part != "self")
                    place = f"{path.relative_to(ROOT)}:{line} {item}"
                    imports[owner[module]].setdefault(name, []).append(place)
    # The root is a module if others use what is defined in it.
    if root_name in modules or any(root_name in targets for targets in imports.values()):
        body = re.sub(r"^\s*(pub(\([^)]*\))?\s+)?(use|mod)\b[^;{]*(\{[^;]*\})?;", blank, text, flags=re.MULTILINE)
        own = imports.setdefault(root_name, {})
        for line, code in enumerate(body.split("\n"), 1):
            for module in modules:
                uses_item = any(re.search(rf"\b{item}\b", code) for item, source in exports.items() if source == module)
                if owner[module] != root_name and (re.search(rf"\b{module}::", code) or uses_item):
                    own.setdefault(owner[module], []).append(f"{root.relative_to(ROOT)}:{line}")
    return imports


def implementation(text: str, modules: list[str]) -> str | None:
    """The module that implements the class whose `glib::wrapper!` is in `text`."""
    match = re.search(r"\bglib::wrapper!\s*\{[^{}]*\(ObjectSubclass<(\w+)::\w+>\)", text)
    return match.group(1) if match and match.group(1) in modules else None


def declared(text: str) -> list[str]:
    return re.findall(r"^(?:pub(?:\([^)]*\))?\s+)?mod\s+(\w+);", text, re.MULTILINE)


def module_files(parent: Path, module: str) -> list[Path]:
    """The files of `module`, which is declared in `parent`, and of the modules in it."""
    folder = parent.parent if parent.name in ("lib.rs", "main.rs", "mod.rs") else parent.with_suffix("")
    file = next(path for path in (folder / f"{module}.rs", folder / module / "mod.rs") if path.exists())
    inner = declared(clean(file.read_text(encoding="utf-8")))
    return [file, *(path for name in inner for path in module_files(file, name))]


def extended(file: Path, where: list[str], modules: list[str]) -> str | None:
    """The module whose type `file` only adds `impl` blocks to, if it does."""
    text = clean(file.read_text(encoding="utf-8"))
    items = re.findall(r"^(?:pub(?:\([^)]*\))?\s+)?(impl|struct|enum|trait|fn|mod)\b(?:<[^>]*>)?\s+(\w+)", text, re.MULTILINE)
    types = {name for kind, name in items if kind == "impl"}
    is_own = any(kind in ("struct", "enum", "trait") and name in types for kind, name in items)
    if len(types) != 1 or is_own or re.search(r"^impl\b[^{]*\bfor\b", text, re.MULTILINE):
        return None
    for _, path in paths(file, where):
        if len(path) > 1 and path[-1] in types and path[len(where) - 1] in modules:
            return path[len(where) - 1]
    return None


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
