# SPDX-License-Identifier: MIT OR Apache-2.0
"""Draws crates and modules as SVG."""

import html
from dataclasses import dataclass

from crates import EXTERNAL, Crate
from cycles import components, cycles

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
