# SPDX-License-Identifier: MIT OR Apache-2.0
"""What the machine can do at best, and what a step cannot do without."""

import contextlib
import mmap
import statistics
import threading
import time
from pathlib import Path

import synthetic_model
import numpy as np
import onnx

# More than any cache holds, and about what the model weighs.
BYTES = 400_000_000
SIZE = 2048
# What is asked of the system: nemostt's weights lie in large pages, ONNX Runtime's in whatever malloc gives.
PAGES = {"large pages": mmap.MADV_HUGEPAGE, "pages of 4 kB": mmap.MADV_NOHUGEPAGE}


def bandwidth(threads: int, rounds: int, advice: int) -> list[float]:
    """Bytes a second that `threads` threads read from memory together, in pages as `advice` asks for."""
    parts = [ones(BYTES // 4 // threads, advice) for _ in range(threads)]

    def read() -> None:
        workers = [threading.Thread(target=part.max) for part in parts]
        for worker in workers:
            worker.start()
        for worker in workers:
            worker.join()

    return [sum(part.nbytes for part in parts) / taken for taken in times(read, rounds)]


def ones(count: int, advice: int) -> np.ndarray:
    # Private: large pages of shared memory are another setting of the system's.
    memory = mmap.mmap(-1, 4 * count, mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS)
    # A kernel without large pages refuses advice about them.
    with contextlib.suppress(OSError):
        memory.madvise(advice)
    values = np.frombuffer(memory, np.float32)
    values.fill(1)
    return values


def multiply_adds(rounds: int) -> list[float]:
    """Multiply-adds a second of NumPy's matrix product, on as many threads as OPENBLAS_NUM_THREADS says."""
    left, right, out = (np.ones((SIZE, SIZE), np.float32) for _ in range(3))
    return [SIZE**3 / taken for taken in times(lambda: np.matmul(left, right, out=out), rounds)]


def times(work, rounds: int) -> list[float]:
    taken = []
    work()
    for _ in range(rounds):
        start = time.perf_counter()
        work()
        taken.append(time.perf_counter() - start)
    return taken


def weight_bytes(models: Path) -> int:
    """All weights of the encoder are read once a step, but those of `linear_pos`: its results are known at load."""
    graph = onnx.load(next(models.glob("nemo_*/encoder-model.onnx"))).graph
    positions = {
        name for node in graph.node if "linear_pos" in node.name for name in node.input
    }
    sizes = (len(tensor.raw_data) for tensor in graph.initializer if tensor.name not in positions)
    return sum(sizes)


def step_multiply_adds(frames: int) -> int:
    """Of a step that gives `frames` encoder frames, with what is the same at every step taken as known."""
    width, keys = synthetic_model.WIDTH, synthetic_model.LEFT + frames
    # A row through two feed-forward modules (4 x as wide), the queries, keys, values and outputs, the convolutions.
    row = 2 * 2 * 4 * width**2 + 4 * width**2 + (2 + 1) * width**2 + (synthetic_model.CONV + 1) * width
    # Scores by content and by position, and the weighted values.
    attention = frames * width * (keys + 2 * keys - 1 + keys)
    # Three convolutions of stride 2 over 80 mels with 256 channels, the last two depthwise and pointwise, and the
    # linear layer after them; two frames more than are kept.
    channels = 256
    depthwise = 9 * channels
    subsampling = 4 * 40 * depthwise + (2 * 20 + 1 * 10) * (depthwise + channels**2) + 10 * channels * width
    return synthetic_model.LAYERS * (frames * row + attention) + (frames + 2) * subsampling


def measure(models: Path, threads: int, rounds: int = 15) -> dict:
    reading = {pages: bandwidth(threads, rounds, advice) for pages, advice in PAGES.items()}
    best = max(reading, key=lambda pages: max(reading[pages]))
    computing = multiply_adds(rounds)
    return {
        "bandwidth": max(reading[best]),
        "bandwidth_median": statistics.median(reading[best]),
        "bandwidths": {pages: max(found) for pages, found in reading.items()},
        "multiply_adds": max(computing),
        "multiply_adds_median": statistics.median(computing),
        "weight_bytes": weight_bytes(models),
    }
