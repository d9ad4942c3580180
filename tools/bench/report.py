# SPDX-License-Identifier: MIT OR Apache-2.0
"""The table and the picture."""

import statistics
from pathlib import Path

FRAME_MS = 80
# Of the project's own bars, and of the others'.
OURS, THEIRS = "#1b7837", "#9970ab"


def write(found: dict, output: Path) -> None:
    replace(output / "README.md", "peers", table(found))
    draw(found, output / "peers.svg")


def rows(lookahead: dict, seconds: float) -> list[dict]:
    """Each program's step in milliseconds: what hearing the clip took, for each chunk of it."""
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
                # Of each round, so that what slowed both down cancels out.
                "ratio": statistics.median(theirs / ours for theirs, ours in zip(rounds, first)),
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
        f"load average of 5 minutes at the start {about['load_average']:.1f}.",
        f"{versions}.",
    ]
    for lookahead in found["lookaheads"]:
        chunk = lookahead["lookahead_ms"] + FRAME_MS
        lines += [
            "",
            f"**Lookahead {lookahead['lookahead_ms']} ms** (a step every {chunk} ms)",
            "",
            "| program | weights | step, median (ms) | minimum (ms) | real-time factor "
            "| of nemostt's time, median | minima | words |",
            "|---|---|---:|---:|---:|---:|---:|---:|",
        ]
        for row in rows(lookahead, about["seconds"]):
            lines.append(
                f"| {row['name']} | {row['precision']} | {row['median']:.1f} | {row['minimum']:.1f} | {row['real_time']:.3f} "
                f"| {row['ratio']:.2f} | {row['best_ratio']:.2f} | {row['words']} |"
            )
    outside = "**Outside of the encoder's run**: what nemostt spends on the front end, labels and words (a chunk's frames are "
    lines += ["", outside + "projected and scored in that run)", ""]
    lines += ["| lookahead | weights | ms per step | of the step |", "|---:|---|---:|---:|"]
    for lookahead in found["lookaheads"]:
        for row in rows(lookahead, about["seconds"]):
            if row["outside_s"] and "," not in row["name"]:
                share = statistics.median(part / all for part, all in zip(row["outside_s"], row["rounds_s"]))
                lines.append(
                    f"| {lookahead['lookahead_ms']} ms | {row['precision']} | {share * row['median']:.2f} | {share:.1%} |"
                )
    lines += ["", "**The limit** of a step in fp32, and how far off nemostt's whole pipeline is", ""]
    lines += [
        "| lookahead | weights read (ms) | multiply-adds (ms) | nemostt, minimum (ms) | of the larger |",
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
        f"Weights: {limits['weight_bytes'] / 1e6:.0f} MB, read at {limits['bandwidth'] / 1e9:.1f} GB/s at best "
        f"({limits['bandwidth_median'] / 1e9:.1f} in the median; NumPy, {about['threads']} threads; "
        + ", ".join(f"{rate / 1e9:.1f} in {pages}" for pages, rate in limits["bandwidths"].items())
        + "). Multiply-adds: "
        + ", ".join(f"{l['multiply_adds'] / 1e9:.2f} G at {l['lookahead_ms']} ms" for l in found["lookaheads"])
        + f", at {limits['multiply_adds'] / 1e9:.0f} G/s at best "
        f"({limits['multiply_adds_median'] / 1e9:.0f} in the median; NumPy's matrix product).",
    ]
    return "\n".join(lines)


def replace(file: Path, name: str, text: str) -> None:
    """Puts `text` between the marks `<!-- name -->` and `<!-- /name -->`."""
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
        colours = [OURS if row["name"].startswith("nemostt") else THEIRS for row in shown]
        bars = axis.barh(names, [row["median"] for row in shown], color=colours)
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
