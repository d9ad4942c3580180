# SPDX-License-Identifier: MIT OR Apache-2.0
"""16-bit mono WAV files at 16 kHz."""

import wave
from pathlib import Path

import numpy as np


def read(path: Path) -> np.ndarray:
    with wave.open(str(path)) as clip:
        if (clip.getframerate(), clip.getnchannels(), clip.getsampwidth()) != (16000, 1, 2):
            raise SystemExit(f"{path} must be 16-bit mono at 16000 samples per second")
        return np.frombuffer(clip.readframes(clip.getnframes()), np.int16).astype(np.float32) / 32768


def cut(path: Path, seconds: float, target: Path) -> float:
    """Writes the first `seconds` of a clip and returns the length written, in seconds."""
    samples = read(path)[: int(seconds * 16000)]
    with wave.open(str(target), "wb") as clip:
        clip.setparams((1, 2, 16000, 0, "NONE", ""))
        clip.writeframes((samples * 32768).astype(np.int16).tobytes())
    return len(samples) / 16000
