# SPDX-License-Identifier: MIT OR Apache-2.0
"""Cycles of imports."""

from crates import Crate

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
