# SPDX-License-Identifier: MIT OR Apache-2.0
"""The tokens of a model."""

from pathlib import Path

from .errors import ExportError

# Tokens that are events, not text, and their names in nemostt.json (parakeet_realtime_eou_120m has both).
SPECIAL = {"<EOU>": "end_of_utterance", "<EOB>": "end_of_backchannel"}
BLANK = "<blk>"


def pieces_of(model) -> list[str]:
    """The text of each token, without blank."""
    tokenizer = model.tokenizer
    pieces = list(tokenizer.ids_to_tokens(list(range(tokenizer.vocab_size))))
    labels = labels_of(model)
    if len(pieces) != labels:
        raise ExportError(
            f"its tokenizer has {len(pieces)} tokens, but its decoder has {labels}: the checkpoint is inconsistent, "
            "use another one"
        )
    return pieces


def labels_of(model) -> int:
    """Number of tokens without blank."""
    if hasattr(model, "joint"):
        return model.joint.num_classes_with_blank - 1
    return model.decoder.num_classes_with_blank - 1


def special(pieces: list[str]) -> dict[str, int]:
    return {name: pieces.index(piece) for piece, name in SPECIAL.items() if piece in pieces}


def write_tokens(pieces: list[str], path: Path) -> None:
    """One "token id" per line, blank last."""
    lines = [f"{piece} {label}\n" for label, piece in enumerate([*pieces, BLANK])]
    path.write_text("".join(lines), encoding="utf-8")


def text(labels: list[int], pieces: list[str]) -> str:
    joined = "".join(pieces[label] for label in labels)
    return joined.replace("\u2581", " ").strip()
