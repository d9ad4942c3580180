# SPDX-License-Identifier: MIT OR Apache-2.0
"""sherpa-onnx as tools/bench runs it: run_sherpa.py DIRECTORY CLIP.wav THREADS [int8]

A program of its own, because the wheel brings an ONNX Runtime of its own.
"""

import sys
from pathlib import Path

import numpy as np
import sherpa_onnx
from worker_protocol import answer
from audio import read

# 10 ms, as sound cards do.
PIECE = 160


def hear(recognizer, samples: np.ndarray) -> str:
    stream = recognizer.create_stream()
    for begin in range(0, len(samples), PIECE):
        stream.accept_waveform(16000, samples[begin : begin + PIECE])
        while recognizer.is_ready(stream):
            recognizer.decode_stream(stream)
    stream.input_finished()
    while recognizer.is_ready(stream):
        recognizer.decode_stream(stream)
    return recognizer.get_result(stream)


def main(directory: Path, clip: Path, threads: int, mark: str = "") -> None:
    samples = read(clip)
    parts = {}
    for role in ("encoder", "decoder", "joiner"):
        marked = directory / f"{role}.{mark}.onnx"
        parts[role] = str(marked if mark and marked.exists() else directory / f"{role}.onnx")
    tokens = str(directory / "tokens.txt")
    answer(
        lambda: sherpa_onnx.OnlineRecognizer.from_transducer(tokens=tokens, **parts, num_threads=threads),
        lambda recognizer: hear(recognizer, samples),
    )


if __name__ == "__main__":
    main(Path(sys.argv[1]), Path(sys.argv[2]), int(sys.argv[3]), *sys.argv[4:5])
