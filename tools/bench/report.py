# SPDX-License-Identifier: MIT OR Apache-2.0
"""Writes the tables and the chart. As a program, writes them again from stored results:

    python tools/bench/report.py [DIRECTORY of peers.json, default docs/benchmarks]
"""

import json
import statistics
import sys
from pathlib import Path

FRAME_MS = 80
# Colors of the bars.
NEMOSTT_COLOR, PEER_COLOR = "#1b7837", "#9970ab"


def write(found: dict, output: Path) -> None:
    replace(output / "README.md", "peers", table(found))
    draw(found, output / "peers.svg")


def rows(lookahead: dict, seconds: float) -> list[dict]:
    """Each program's time per step in milliseconds: the time to transcribe the clip divided by its number of chunks."""
    chunks = seconds * 1000 / (lookahead["lookahead_ms"] + FRAME_MS)
    found = []
    for program in lookahead["programs"]:
        rounds = program["rounds_s"]
        first = next(p["rounds_s"] for p in lookahead["programs"] if p["precision"] == program["precision"])
        found.append(
            program
            | {
                "median": statistics.median(rounds) * 1000 / chunks,
                "minimum": min(rounds) * 1000 / chunks,
                "real_time": statistics.median(rounds) / seconds,
                # Within each round, so that anything that slows both down cancels out.
                "ratio": statistics.median(time / baseline for time, baseline in zip(rounds, first)),
                "best_ratio": min(rounds) / min(first),
            }
        )
    return found


def bytes_read(limits: dict) -> float:
    """Bytes of weights that nemostt reads per step in fp32. `weight_bytes` has 4 bytes per weight."""
    return limits["weight_bytes"] / 4 * limits.get("bytes_per_weight", 4)


def roofline(lookahead: dict, limits: dict) -> tuple[float, float]:
    """The least time in ms to read the weights of a step, and to compute its multiply-adds.

    Rates that were measured separately, with nemostt's own loops, are closer to the machine's peak than NumPy's.
    """
    rates = limits | limits.get("measured_separately", {})
    reading = bytes_read(limits) / rates["bandwidth"] * 1000
    return reading, lookahead["multiply_adds"] / rates["multiply_adds"] * 1000


def table(found: dict) -> str:
    about, limits = found["about"], found["limits"]
    versions = "; ".join(f"{name} {version}" for name, version in about["versions"].items())
    lines = [
        f"`{about['command']}`: {about['rounds']} rounds of {about['seconds']:.1f} s of {about['clip']}, "
        f"{about['threads']} threads each.",
        f"{about['processor']}, {about['cores']} cores; "
        f"5-minute load average at the start {about['load_average']:.1f}.",
        f"{versions}.",
    ]
    for lookahead in found["lookaheads"]:
        chunk = lookahead["lookahead_ms"] + FRAME_MS
        lines += [
            "",
            f"**Lookahead {lookahead['lookahead_ms']} ms** (a step every {chunk} ms)",
            "",
            "| program | weights | step, median (ms) | minimum (ms) | real-time factor "
            "| ratio to nemostt, median | ratio of minima | words |",
            "|---|---|---:|---:|---:|---:|---:|---:|",
        ]
        for row in rows(lookahead, about["seconds"]):
            lines.append(
                f"| {row['name']} | {row['precision']} | {row['median']:.1f} | {row['minimum']:.1f} "
                f"| {row['real_time']:.3f} | {row['ratio']:.2f} | {row['best_ratio']:.2f} | {row['words']} |"
            )
    outside = "**Outside the encoder**: nemostt's time for front end, decoding and words (the encoder's run includes the"
    lines += ["", outside, "joint's projection and logits of all frames of a chunk)", ""]
    lines += ["| lookahead | weights | ms per step | share of the step |", "|---:|---|---:|---:|"]
    for lookahead in found["lookaheads"]:
        for row in rows(lookahead, about["seconds"]):
            if row["outside_s"] and "," not in row["name"]:
                share = statistics.median(part / all for part, all in zip(row["outside_s"], row["rounds_s"]))
                ms = share * row["median"]
                lines.append(f"| {lookahead['lookahead_ms']} ms | {row['precision']} | {ms:.2f} | {share:.1%} |")
    lines += ["", "**Roofline** of a step in fp32, compared with nemostt's whole pipeline", ""]
    lines += [
        "| lookahead | reading weights (ms) | multiply-adds (ms) | nemostt, minimum (ms) | ratio to the larger |",
        "|---:|---:|---:|---:|---:|",
    ]
    for lookahead in found["lookaheads"]:
        reading, computing = roofline(lookahead, limits)
        step = rows(lookahead, about["seconds"])[0]["minimum"]
        lines.append(
            f"| {lookahead['lookahead_ms']} ms | {reading:.1f} | {computing:.1f} | {step:.1f} "
            f"| {step / max(reading, computing):.2f} |"
        )
    lines += [
        "",
        f"Weights: {bytes_read(limits) / 1e6:.0f} MB, {limits.get('bytes_per_weight', 4)} bytes each. Multiply-adds: "
        + ", ".join(f"{l['multiply_adds'] / 1e9:.2f} G at {l['lookahead_ms']} ms" for l in found["lookaheads"])
        + ".",
    ]
    if separately := limits.get("measured_separately"):
        lines += [
            f"Rates, measured separately with nemostt's own loops: {separately['bandwidth'] / 1e9:.1f} GB/s and "
            f"{separately['multiply_adds'] / 1e9:.0f} G/s.",
        ]
    lines += [
        f"Rates of NumPy in this run, with {about['threads']} threads: {limits['bandwidth'] / 1e9:.1f} GB/s at most "
        f"(median {limits['bandwidth_median'] / 1e9:.1f}; "
        + ", ".join(f"{rate / 1e9:.1f} in {pages}" for pages, rate in limits["bandwidths"].items())
        + "),",
        f"and {limits['multiply_adds'] / 1e9:.0f} G/s (median {limits['multiply_adds_median'] / 1e9:.0f}).",
    ]
    return "\n".join(lines)


def replace(file: Path, name: str, text: str) -> None:
    """Replaces the text between the markers `<!-- name -->` and `<!-- /name -->`."""
    begin, end = f"<!-- {name} -->", f"<!-- /{name} -->"
    whole = file.read_text(encoding="utf-8") if file.exists() else f"{begin}\n{end}\n"
    before, rest = whole.split(begin)
    _, after = rest.split(end)
    file.write_text(f"{before}{begin}\n{text}\n{end}{after}", encoding="utf-8")


def draw(found: dict, file: Path) -> None:
    import matplotlib

    matplotlib.use("svg")
    matplotlib.rcParams.update({"svg.fonttype": "none", "svg.hashsalt": "nemostt", "font.family": "sans-serif"})
    from matplotlib import pyplot

    lookaheads, limits = found["lookaheads"], found["limits"]
    # All panels have the same programs, so their names are on the left only.
    figure, axes = pyplot.subplots(
        1, len(lookaheads), figsize=(2.4 + 3.6 * len(lookaheads), 3.6), squeeze=False, sharey=True, layout="constrained"
    )
    for axis, lookahead in zip(axes[0], lookaheads):
        shown = rows(lookahead, found["about"]["seconds"])
        names = [f"{row['name']}, {row['precision']}" for row in shown]
        colors = [NEMOSTT_COLOR if row["name"].startswith("nemostt") else PEER_COLOR for row in shown]
        bars = axis.barh(names, [row["median"] for row in shown], color=colors)
        axis.bar_label(bars, [f"{row['median']:.1f} ms ({row['ratio']:.1f} x)" for row in shown], padding=6)
        # The limit of the first row: the others hold their weights in another form.
        limit = max(roofline(lookahead, limits))
        lines = axis.vlines(limit, -0.5, 0.5, color="black", linewidth=2)
        axis.set_xlim(0, 1.6 * max(row["median"] for row in shown))
        axis.spines[["top", "right"]].set_visible(False)
        axis.set_title(f"lookahead {lookahead['lookahead_ms']} ms", fontsize=11)
        axis.set_xlabel("ms per step")
    axes[0][0].invert_yaxis()
    weights = f"{8 * limits.get('bytes_per_weight', 4)}-bit weights"
    figure.legend(
        [lines], [f"limit of the machine for nemostt in fp32 ({weights})"], loc="outside lower center", frameon=False
    )
    figure.savefig(file, metadata={"Date": None}, bbox_inches="tight", pad_inches=0.1)


if __name__ == "__main__":
    directory = Path(sys.argv[1]) if len(sys.argv) > 1 else Path(__file__).resolve().parents[2] / "docs" / "benchmarks"
    write(json.loads((directory / "peers.json").read_text(encoding="utf-8")), directory)
