# SPDX-License-Identifier: MIT OR Apache-2.0
"""The clips that an export is verified with."""

from dataclasses import dataclass
from pathlib import Path

import numpy as np

from .errors import ExportError

DEMO = Path(__file__).resolve().parents[2] / "assets" / "demo.wav"
# Long enough for several windows at the largest lookahead, but quick to process.
DEFAULT_SECONDS = 8


@dataclass
class Clip:
    name: str
    samples: np.ndarray
    """Mono, f32, between -1 and 1."""


def clips(paths: list[Path], rate: int) -> list[Clip]:
    """The files `paths`, or the default clip."""
    if paths:
        return [Clip(path.name, read(path, rate)) for path in paths]
    if DEMO.exists():
        return [Clip(f"{DEMO.name} (first {DEFAULT_SECONDS} s)", read(DEMO, rate)[: DEFAULT_SECONDS * rate])]
    return [Clip("synthesized noise", noise(rate))]


def read(path: Path, rate: int) -> np.ndarray:
    import soundfile

    try:
        samples, found = soundfile.read(path, dtype="float32", always_2d=True)
    except (soundfile.LibsndfileError, OSError) as error:
        raise ExportError(f"{path} cannot be read ({error}): use a WAV file") from error
    if found != rate or samples.shape[1] != 1:
        raise ExportError(
            f"{path} has {found} Hz and {samples.shape[1]} channels, but the model needs {rate} Hz mono: convert it "
            f"with ffmpeg -i {path.name} -ar {rate} -ac 1 out.wav"
        )
    if len(samples) < rate // 10:
        raise ExportError(f"{path} is shorter than 0.1 s: use a longer one")
    return samples[:, 0]


def noise(rate: int) -> np.ndarray:
    """Reproducible bursts of noise with pauses, for a checkout without assets."""
    generator = np.random.default_rng(1)
    loudness = np.repeat(generator.uniform(0, 0.3, 16) * (generator.random(16) > 0.3), rate // 4)
    return (generator.standard_normal(loudness.size) * loudness).clip(-1, 1).astype(np.float32)
