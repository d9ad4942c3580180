# SPDX-License-Identifier: MIT OR Apache-2.0
"""Runs sherpa-onnx for tools/bench: run_sherpa.py DIRECTORY CLIP.wav THREADS [int8]

A separate process, because sherpa-onnx's wheel contains its own ONNX Runtime.
"""

import sys
from pathlib import Path

import numpy as np
import sherpa_onnx
from worker_protocol import serve
from audio import read

# 10 ms, like buffers from a sound card.
BLOCK = 160


def transcribe(recognizer, samples: np.ndarray) -> str:
    stream = recognizer.create_stream()
    for begin in range(0, len(samples), BLOCK):
        stream.accept_waveform(16000, samples[begin : begin + BLOCK])
        while recognizer.is_ready(stream):
            recognizer.decode_stream(stream)
    stream.input_finished()
    while recognizer.is_ready(stream):
        recognizer.decode_stream(stream)
    return recognizer.get_result(stream)


def load(directory: Path, threads: int, suffix: str = "") -> sherpa_onnx.OnlineRecognizer:
    """Loads the model in a directory; `suffix` is that of quantized files, where there are any."""
    parts = {}
    for role in ("encoder", "decoder", "joiner"):
        file = directory / f"{role}.{suffix}.onnx"
        parts[role] = str(file if suffix and file.exists() else directory / f"{role}.onnx")
    tokens = str(directory / "tokens.txt")
    return sherpa_onnx.OnlineRecognizer.from_transducer(tokens=tokens, **parts, num_threads=threads)


def main(directory: Path, clip: Path, threads: int, suffix: str = "") -> None:
    samples = read(clip)
    serve(
        lambda: load(directory, threads, suffix),
        lambda recognizer: transcribe(recognizer, samples),
    )


if __name__ == "__main__":
    main(Path(sys.argv[1]), Path(sys.argv[2]), int(sys.argv[3]), *sys.argv[4:5])
