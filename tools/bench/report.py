# SPDX-License-Identifier: MIT OR Apache-2.0
"""Writes the tables and the chart."""

import statistics
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
    outside = "**Outside the encoder**: nemostt's time for front end, decoding and words (the encoder's run includes "
    lines += ["", outside + "the joint's projection and logits of all frames of a chunk)", ""]
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
        reading = limits["weight_bytes"] / limits["bandwidth"] * 1000
        computing = lookahead["multiply_adds"] / limits["multiply_adds"] * 1000
        step = rows(lookahead, about["seconds"])[0]["minimum"]
        lines.append(
            f"| {lookahead['lookahead_ms']} ms | {reading:.1f} | {computing:.1f} | {step:.1f} "
            f"| {step / max(reading, computing):.2f} |"
        )
    lines += [
        "",
        f"Weights: {limits['weight_bytes'] / 1e6:.0f} MB, read at a peak of {limits['bandwidth'] / 1e9:.1f} GB/s "
        f"(median {limits['bandwidth_median'] / 1e9:.1f}; NumPy, {about['threads']} threads; "
        + ", ".join(f"{rate / 1e9:.1f} in {pages}" for pages, rate in limits["bandwidths"].items())
        + "). Multiply-adds: "
        + ", ".join(f"{l['multiply_adds'] / 1e9:.2f} G at {l['lookahead_ms']} ms" for l in found["lookaheads"])
        + f", at a peak of {limits['multiply_adds'] / 1e9:.0f} G/s "
        f"(median {limits['multiply_adds_median'] / 1e9:.0f}; NumPy's matrix multiplication).",
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
    figure, axes = pyplot.subplots(1, len(lookaheads), figsize=(5.4 * len(lookaheads), 3.2), squeeze=False)
    for axis, lookahead in zip(axes[0], lookaheads):
        shown = rows(lookahead, found["about"]["seconds"])
        names = [f"{row['name']}, {row['precision']}" for row in shown]
        colors = [NEMOSTT_COLOR if row["name"].startswith("nemostt") else PEER_COLOR for row in shown]
        bars = axis.barh(names, [row["median"] for row in shown], color=colors)
        axis.bar_label(bars, [f"{row['median']:.0f} ms ({row['ratio']:.1f} x)" for row in shown], padding=3)
        limit = max(
            limits["weight_bytes"] / limits["bandwidth"], lookahead["multiply_adds"] / limits["multiply_adds"]
        )
        axis.axvline(limit * 1000, color="black", linestyle=":", linewidth=1)
        axis.set_xlim(0, 1.35 * max(row["median"] for row in shown))
        axis.invert_yaxis()
        axis.spines[["top", "right"]].set_visible(False)
        axis.set_title(f"lookahead {lookahead['lookahead_ms']} ms: ms per step, dotted: fp32 limit", fontsize=10)
    figure.tight_layout()
    figure.savefig(file, metadata={"Date": None})
