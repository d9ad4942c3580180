#!/usr/bin/env python3
# SPDX-License-Identifier: MIT OR Apache-2.0
"""Draws a terminal session as an SVG: runs nemostt and shows what it prints.

    tools/terminal_svg.py FILE.svg

The command is in $NEMOSTT [default: target/release/nemostt]. Where CSS animations run, commands are typed, and lines
appear one after the other; elsewhere all of it is shown at once.
"""

import html
import os
import subprocess
import sys
import textwrap
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
SESSION = [
    "nemostt transcribe assets/demo.wav",
    "nemostt transcribe --words assets/demo.wav | head -n 5",
    "nemostt transcribe --srt assets/demo.wav | head -n 7",
]
COLUMNS = 84
# Pixels.
FONT_SIZE, CHARACTER, LINE, MARGIN, BAR = 14, 8.43, 20, 16, 30
# Seconds.
PER_CHARACTER, PER_LINE, PAUSE = 0.03, 0.06, 0.8

STYLE = f"""
    text {{ font: {FONT_SIZE}px "DejaVu Sans Mono", Menlo, Consolas, monospace; fill: #d7dae0; }}
    .command {{ fill: #ffffff; font-weight: bold; }}
    .prompt {{ fill: #7bc275; }}
    .shown {{ animation: show 1ms backwards; }}
    @keyframes show {{ from {{ opacity: 0; }} to {{ opacity: 1; }} }}
"""


def run(command: str) -> list[str]:
    """The lines that a shell command prints, wrapped as a terminal does, but between words."""
    program = Path(os.environ.get("NEMOSTT", ROOT / "target" / "release" / "nemostt"))
    # The model is named, so that there is no notice that it is the built-in one.
    environment = {**os.environ, "NEMOSTT_MODEL": str(ROOT / "crates" / "nemostt" / "assets" / "demo-model")}
    script = f'nemostt() {{ "$PROGRAM" "$@"; }}; set -o pipefail; {command}'
    done = subprocess.run(
        ["bash", "-c", script],
        cwd=ROOT,
        env={**environment, "PROGRAM": str(program)},
        stdout=subprocess.PIPE,
        text=True,
    )
    # 141: head closed the pipe.
    if done.returncode not in (0, 141):
        sys.exit(f"terminal_svg: {command} failed with exit code {done.returncode}")
    lines = done.stdout.expandtabs().rstrip("\n").split("\n")
    return [part for line in lines for part in textwrap.wrap(line, COLUMNS) or [""]]


def draw() -> str:
    rows, delay = [], PAUSE
    for command in SESSION:
        typed = "".join(
            f'<tspan class="shown" style="animation-delay:{delay + number * PER_CHARACTER:.2f}s">'
            f"{html.escape(character)}</tspan>"
            for number, character in enumerate(command)
        )
        rows.append(f'<tspan class="prompt">$ </tspan><tspan class="command">{typed}</tspan>')
        delay += len(command) * PER_CHARACTER + PER_LINE
        for line in run(command):
            rows.append(f'<tspan class="shown" style="animation-delay:{delay:.2f}s">{html.escape(line)}</tspan>')
            delay += PER_LINE
        rows.append("")
        delay += PAUSE
    rows.pop()
    width = round(2 * MARGIN + COLUMNS * CHARACTER)
    height = BAR + len(rows) * LINE + MARGIN
    texts = "\n".join(
        f'  <text xml:space="preserve" x="{MARGIN}" y="{BAR + FONT_SIZE + number * LINE}">{row}</text>'
        for number, row in enumerate(rows)
        if row
    )
    dots = "\n".join(
        f'  <circle cx="{MARGIN + 4 + 18 * number}" cy="16" r="5.5" fill="{color}"/>'
        for number, color in enumerate(("#ff5f57", "#febc2e", "#28c840"))
    )
    return f"""<svg xmlns="http://www.w3.org/2000/svg" width="{width}" height="{height}" viewBox="0 0 {width} {height}">
  <title>A terminal: nemostt transcribes assets/demo.wav</title>
  <style>{STYLE}  </style>
  <rect width="{width}" height="{height}" rx="8" fill="#1e2127"/>
{dots}
{texts}
</svg>
"""


if __name__ == "__main__":
    if len(sys.argv) != 2:
        sys.exit(__doc__)
    Path(sys.argv[1]).write_text(draw(), encoding="utf-8")
