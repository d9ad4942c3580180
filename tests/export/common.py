# SPDX-License-Identifier: MIT OR Apache-2.0
"""Shared by the tests of the export: paths, and running the export itself."""

import contextlib
import io
import json
import os
import sys
import wave
from pathlib import Path

import numpy as np

ROOT = Path(__file__).resolve().parents[2]
sys.path.insert(0, str(ROOT / "tools"))

WAVS = ROOT / "tests" / "data" / "wav"
CLIP = WAVS / "u2_digits.wav"
# The checkpoint of the built-in model, which is not in the repository: NEMOSTT_DEMO_NEMO is its path.
DEMO = Path(os.environ.get("NEMOSTT_DEMO_NEMO", ROOT / "assets" / "demo-model" / "demo.nemo"))


def samples(path: Path = CLIP) -> np.ndarray:
    with wave.open(str(path)) as file:
        return np.frombuffer(file.readframes(file.getnframes()), np.int16).astype(np.float32) / 32768


def export(*arguments) -> tuple[int, str, str]:
    """Runs the export in this process, where NeMo is loaded only once. Returns exit code, standard output and error."""
    from export_nemo.cli import main

    out, err = io.StringIO(), io.StringIO()
    with contextlib.redirect_stdout(out), contextlib.redirect_stderr(err):
        code = main([str(argument) for argument in arguments])
    return code, out.getvalue(), err.getvalue()


def report(directory: Path) -> dict:
    return json.loads((directory / "parity.json").read_text(encoding="utf-8"))


def sidecar(directory: Path) -> dict:
    return json.loads((directory / "nemostt.json").read_text(encoding="utf-8"))
