# SPDX-License-Identifier: MIT OR Apache-2.0
"""The labels of a model."""

from pathlib import Path

from .errors import Refusal

# Pieces that are events, not text, and what nemostt.json calls them (parakeet_realtime_eou_120m has both).
SPECIAL = {"<EOU>": "end_of_utterance", "<EOB>": "end_of_backchannel"}
BLANK = "<blk>"


def pieces_of(model) -> list[str]:
    """The piece of each label, without blank."""
    tokenizer = model.tokenizer
    pieces = list(tokenizer.ids_to_tokens(list(range(tokenizer.vocab_size))))
    labels = labels_of(model)
    if len(pieces) != labels:
        raise Refusal(
            f"its tokenizer has {len(pieces)} pieces but its decoder {labels} labels: the checkpoint was put together "
            "wrongly, take another one"
        )
    return pieces


def labels_of(model) -> int:
    """Labels without blank."""
    if hasattr(model, "joint"):
        return model.joint.num_classes_with_blank - 1
    return model.decoder.num_classes_with_blank - 1


def special(pieces: list[str]) -> dict[str, int]:
    return {name: pieces.index(piece) for piece, name in SPECIAL.items() if piece in pieces}


def write_tokens(pieces: list[str], path: Path) -> None:
    """One "piece id" a line, blank last."""
    lines = [f"{piece} {label}\n" for label, piece in enumerate([*pieces, BLANK])]
    path.write_text("".join(lines), encoding="utf-8")


def text(labels: list[int], pieces: list[str]) -> str:
    joined = "".join(pieces[label] for label in labels)
    return joined.replace("\u2581", " ").strip()
