# SPDX-License-Identifier: MIT OR Apache-2.0
"""Runs many streams with sherpa-onnx's batch API: run_sherpa_streams.py DIRECTORY CLIP.wav THREADS [int8]

As tools/bench/streams.rs: for each line `STREAMS SECONDS` on standard input, it decodes that many streams of the clip at the
same time, each from another position, and answers with the seconds of audio per second. All streams get the same amount of
audio before each batch, which is the best case for `decode_streams`.
"""

import json
import sys
import time
from pathlib import Path

import numpy as np
from audio import read
from run_sherpa import load

RATE = 16000
# Audio that each stream gets before a batch is decoded: a tenth of a second.
BLOCK = RATE // 10


def decode(recognizer, samples: np.ndarray, count: int, seconds: float) -> float:
    """Decodes `count` streams of `seconds` seconds, and returns the seconds that it took."""
    streams = [recognizer.create_stream() for _ in range(count)]
    length = int(seconds * RATE)
    repeated = np.tile(samples, length // len(samples) + 2)
    offsets = [index * len(samples) // count for index in range(count)]
    start = time.perf_counter()
    for begin in range(0, length, BLOCK):
        for stream, offset in zip(streams, offsets):
            stream.accept_waveform(RATE, repeated[offset + begin : offset + begin + BLOCK])
        while ready := [stream for stream in streams if recognizer.is_ready(stream)]:
            recognizer.decode_streams(ready)
    return time.perf_counter() - start


def main(directory: Path, clip: Path, threads: int, suffix: str = "") -> None:
    samples = read(clip)
    recognizer = load(directory, threads, suffix)
    print("ready", flush=True)
    for line in sys.stdin:
        count, seconds = line.split()
        taken = decode(recognizer, samples, int(count), float(seconds))
        answer = {"streams": int(count), "audio_per_second": int(count) * float(seconds) / taken}
        print(json.dumps(answer), flush=True)


if __name__ == "__main__":
    main(Path(sys.argv[1]), Path(sys.argv[2]), int(sys.argv[3]), *sys.argv[4:5])
