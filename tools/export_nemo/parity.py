# SPDX-License-Identifier: MIT OR Apache-2.0
"""Compares exported graphs with NeMo's output, and other precisions with fp32."""

from dataclasses import asdict, dataclass

import numpy as np

from .layouts import Layout, Shape
from .checks import Kind
from .reference import Reference, collapse
from .runner import EncoderGraph, Transducer


@dataclass
class Row:
    """One clip with one decoder at one lookahead, compared with NeMo."""

    directory: str
    """Directory of the graphs, if there are several."""
    lookahead_ms: int
    clip: str
    decoder: str
    frames: int
    streaming_difference: float
    """Largest difference over all windows of NeMo's streaming."""
    offline_difference: float
    """Largest difference over all frames, compared with NeMo's offline encoder."""
    scale: float
    """Largest absolute value of NeMo's output."""
    labels: int
    offline_labels: str
    """"equal", or the first difference."""
    streaming_labels: str
    passed: bool


@dataclass
class Loss:
    """One clip with one decoder at one lookahead: another precision compared with fp32."""

    directory: str
    precision: str
    lookahead_ms: int
    clip: str
    decoder: str
    worst_difference: float
    signal_to_noise_db: float
    """Power of the fp32 outputs relative to that of the difference."""
    labels: int
    label_errors: int
    """Insertions, deletions and substitutions compared with the tokens of fp32."""
    text_equal: bool
    passed: bool
    """False if there are NaN or infinite outputs."""


@dataclass
class Decoded:
    """Outputs and tokens of a clip."""

    outputs: np.ndarray
    labels: list[int]


class ExportedModel:
    """A loaded set of graphs of one layout, with its decoders."""

    def __init__(self, files, layout: Layout, kind: Kind, shape: Shape, prompt: int | None):
        roles = {"rnnt": "encoder", "ctc": "ctc"}
        self.encoders = {
            decoder: EncoderGraph(files[role], layout, kind, shape, prompt)
            for decoder, role in roles.items()
            if role in files
        }
        self.transducer = Transducer(files, shape) if "rnnt" in self.encoders else None

    def labels(self, decoder: str, outputs: np.ndarray) -> list[int]:
        return self.transducer.decode(outputs) if decoder == "rnnt" else collapse(outputs)

    def transcribe(self, decoder: str, mel: np.ndarray, lookahead: int) -> Decoded:
        outputs = self.encoders[decoder].encode(mel, lookahead)
        return Decoded(outputs, self.labels(decoder, outputs))


def check(
    model: ExportedModel, directory: str, reference: Reference, lookaheads: list[int], frame_ms: int, tolerance: float
) -> tuple[list[Row], dict]:
    """A row for every lookahead, clip and decoder; and the results by the same keys, for comparing precisions."""
    rows, decoded = [], {}
    for lookahead in lookaheads:
        for clip, mel in reference.mels.items():
            golden = reference.goldens[clip, lookahead]
            for decoder, encoder in model.encoders.items():
                role = "encoder" if decoder == "rnnt" else "ctc"
                found = decoded[lookahead, clip, decoder] = model.transcribe(decoder, mel, lookahead)
                offline = difference(found.outputs, golden.offline[role])
                caches, streamed, streaming = encoder.start(), [], 0.0
                for step in golden.steps:
                    frames, caches = encoder.step(step.mel, step.length, step.drop, caches)
                    streaming = max(streaming, difference(frames, step.outputs[role]))
                    streamed.append(frames)
                scale = float(np.abs(golden.offline[role]).max())
                offline_labels = compare(found.labels, golden.offline_labels[decoder])
                again = model.labels(decoder, np.concatenate(streamed))
                streaming_labels = compare(again, golden.streaming_labels[decoder])
                within = max(offline, streaming) <= tolerance * max(1.0, scale)
                row = Row(
                    directory,
                    lookahead * frame_ms,
                    clip,
                    decoder,
                    len(found.outputs),
                    streaming,
                    offline,
                    scale,
                    len(found.labels),
                    offline_labels,
                    streaming_labels,
                    within and offline_labels == streaming_labels == "equal",
                )
                rows.append(row)
    return rows, decoded


def check_precision(
    model: ExportedModel, directory: str, precision: str, reference: Reference, exact: dict, frame_ms: int, text
) -> list[Loss]:
    """A row for every clip, decoder and lookahead of `exact`, the results of fp32."""
    losses = []
    for (lookahead, clip, decoder), golden in exact.items():
        found = model.transcribe(decoder, reference.mels[clip], lookahead)
        noise = float(np.mean((found.outputs - golden.outputs) ** 2))
        power = float(np.mean(golden.outputs**2))
        loss = Loss(
            directory,
            precision,
            lookahead * frame_ms,
            clip,
            decoder,
            difference(found.outputs, golden.outputs),
            10 * float(np.log10(power / noise)) if noise else float("inf"),
            len(golden.labels),
            edits(found.labels, golden.labels),
            text(found.labels) == text(golden.labels),
            bool(np.isfinite(found.outputs).all()),
        )
        losses.append(loss)
    return losses


def difference(found: np.ndarray, expected: np.ndarray) -> float:
    """The largest absolute difference; infinite if shapes differ or values are not finite."""
    if found.shape != expected.shape or not np.isfinite(found).all():
        return float("inf")
    return float(np.abs(found - expected).max(initial=0.0))


def compare(found: list[int], expected: list[int]) -> str:
    """ "equal", or the first difference."""
    if found == expected:
        return "equal"
    pairs = zip([*found, None], [*expected, None])
    place, (here, there) = next((place, pair) for place, pair in enumerate(pairs) if pair[0] != pair[1])
    return f"token {place} is {here}, NeMo's is {there}"


def edits(found: list[int], expected: list[int]) -> int:
    """Levenshtein distance."""
    row = list(range(len(expected) + 1))
    for i, here in enumerate(found, 1):
        before, row[0] = row[0], i
        for j, there in enumerate(expected, 1):
            before, row[j] = row[j], min(row[j] + 1, row[j - 1] + 1, before + (here != there))
    return row[-1]


def report(rows: list[Row], losses: list[Loss], facts: dict) -> dict:
    """The contents of parity.json."""
    passed = all(row.passed for row in (*rows, *losses))
    plain = lambda row: {key: finite(value) for key, value in asdict(row).items()}
    return {
        "format": 1,
        "passed": passed,
        **facts,
        "parity": list(map(plain, rows)),
        "accuracy": list(map(plain, losses)),
    }


def finite(value):
    """JSON cannot represent infinity and NaN."""
    return str(value) if isinstance(value, float) and not np.isfinite(value) else value


def table(rows: list[Row]) -> str:
    head = ("directory", "lookahead", "clip", "decoder", "frames", "streaming", "offline", "tokens", "against NeMo")
    cells = [
        (
            row.directory,
            f"{row.lookahead_ms} ms",
            row.clip,
            row.decoder,
            str(row.frames),
            f"{row.streaming_difference:.1e}",
            f"{row.offline_difference:.1e}",
            str(row.labels),
            verdict(row),
        )
        for row in rows
    ]
    return aligned([head, *cells])


def verdict(row: Row) -> str:
    if row.passed:
        return "equal"
    faults = [
        f"{name}: {value}"
        for name, value in (("offline", row.offline_labels), ("streaming", row.streaming_labels))
        if value != "equal"
    ]
    return "; ".join(faults) or "DIFFERS"


def loss_table(losses: list[Loss]) -> str:
    head = ("directory", "precision", "lookahead", "clip", "decoder", "worst", "SNR", "tokens", "errors", "text")
    cells = [
        (
            loss.directory,
            loss.precision,
            f"{loss.lookahead_ms} ms",
            loss.clip,
            loss.decoder,
            f"{loss.worst_difference:.1e}",
            f"{loss.signal_to_noise_db:.0f} dB",
            str(loss.labels),
            str(loss.label_errors),
            "equal" if loss.text_equal else "differs" if loss.passed else "NOT A NUMBER",
        )
        for loss in losses
    ]
    return aligned([head, *cells])


def aligned(lines: list[tuple[str, ...]]) -> str:
    """Aligns columns below their headers; the first one, the directory, is shown only if there are several."""
    if not any(line[0] for line in lines[1:]):
        lines = [line[1:] for line in lines]
    widths = [max(map(len, column)) for column in zip(*lines)]
    return "\n".join("  ".join(cell.ljust(width) for cell, width in zip(line, widths)).rstrip() for line in lines)
