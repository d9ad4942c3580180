# SPDX-License-Identifier: MIT OR Apache-2.0
"""nemostt.json: information that loaders need and graphs do not contain."""

import json
from pathlib import Path

from . import vocabulary
from .checkpoint import Checkpoint
from .checks import Kind

FORMAT = 1
# NeMo's defaults (AudioToMelSpectrogramPreprocessor), for configurations that omit a key.
PREPROCESSOR = {
    "sample_rate": 16000,
    "window_size": 0.02,
    "window_stride": 0.01,
    "window": "hann",
    "n_fft": None,
    "features": 64,
    "normalize": "per_feature",
    "preemph": 0.97,
}


def preprocessor(config: dict) -> dict:
    """NeMo's settings under NeMo's names; n_fft as NeMo computes it if it is not set."""
    found = {key: config["preprocessor"].get(key, default) for key, default in PREPROCESSOR.items()}
    if not found["n_fft"]:
        window = int(found["window_size"] * found["sample_rate"])
        found["n_fft"] = 1 << (window - 1).bit_length()
    found["normalize"] = found["normalize"] or "NA"
    return found


def contents(
    checkpoint: Checkpoint, kind: Kind, pieces: list[str], layout: str, lookaheads, decoders, precision
) -> dict:
    import nemo

    found = {
        "format": FORMAT,
        "layout": layout,
        "class": kind.name,
        "preprocessor": preprocessor(checkpoint.config),
        "lookaheads": list(lookaheads),
        "labels": len(pieces),
        "special": vocabulary.special(pieces),
        "decoders": list(decoders),
        "precision": precision,
        "nemo_version": nemo.__version__,
        "source": checkpoint.source,
        "licence": checkpoint.licence,
    }
    if kind.prompts:
        found["prompt"] = {
            "dictionary": kind.prompts,
            "auto": kind.prompts.get("auto"),
            "size": kind.prompt_size,
        }
    return {key: value for key, value in found.items() if value is not None}


def write(found: dict, path: Path) -> None:
    path.write_text(json.dumps(found, ensure_ascii=False, indent=1) + "\n", encoding="utf-8")
