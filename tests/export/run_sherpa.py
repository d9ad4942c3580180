# SPDX-License-Identifier: MIT OR Apache-2.0
"""Prints sherpa-onnx's transcripts as JSON: run_sherpa.py DIRECTORY rnnt|ctc SILENCE_MS WAV...

A separate process, because sherpa-onnx has a different ONNX Runtime from the one that the tests have loaded.
"""

import json
import sys
import wave
from pathlib import Path

import numpy as np
import sherpa_onnx


def recognizer(directory: Path, decoder: str):
    file = lambda stem: str(next(iter(sorted(directory.glob(f"{stem}.*onnx")))))
    tokens = str(directory / "tokens.txt")
    if decoder == "ctc":
        return sherpa_onnx.OnlineRecognizer.from_nemo_ctc(tokens=tokens, model=file("model"), num_threads=1)
    parts = {"encoder": file("encoder"), "decoder": file("decoder"), "joiner": file("joiner")}
    return sherpa_onnx.OnlineRecognizer.from_transducer(tokens=tokens, **parts, num_threads=1)


def transcribe(model, path: str, silence_ms: int) -> str:
    """The text of silence, the clip, and enough silence for the last window."""
    with wave.open(path) as file:
        rate = file.getframerate()
        samples = np.frombuffer(file.readframes(file.getnframes()), np.int16).astype(np.float32) / 32768
    stream = model.create_stream()
    for part in (np.zeros(rate * silence_ms // 1000, np.float32), samples, np.zeros(2 * rate, np.float32)):
        stream.accept_waveform(rate, part)
    stream.input_finished()
    while model.is_ready(stream):
        model.decode_stream(stream)
    return model.get_result_all(stream).text


if __name__ == "__main__":
    directory, decoder, silence, *paths = sys.argv[1:]
    model = recognizer(Path(directory), decoder)
    print(json.dumps([transcribe(model, path, int(silence)) for path in paths]))
