# SPDX-License-Identifier: MIT OR Apache-2.0
"""The roofline: peak memory bandwidth and arithmetic of the machine, and the bytes and multiply-adds of a step."""

import contextlib
import mmap
import re
import statistics
import threading
import time
from pathlib import Path

import synthetic_model
import numpy as np
import onnx

# More than fits into any CPU cache, and about the size of the model's weights.
BYTES = 400_000_000
SIZE = 2048
# Advice for the kernel. nemostt's weights are in huge pages, ONNX Runtime's in memory from malloc.
PAGES = {"huge pages": mmap.MADV_HUGEPAGE, "4 kB pages": mmap.MADV_NOHUGEPAGE}


def bandwidth(threads: int, rounds: int, advice: int) -> list[float]:
    """Total bytes per second that `threads` threads read from memory, with pages of the kind in `advice`."""
    parts = [ones(BYTES // 4 // threads, advice) for _ in range(threads)]

    def read() -> None:
        workers = [threading.Thread(target=part.max) for part in parts]
        for worker in workers:
            worker.start()
        for worker in workers:
            worker.join()

    return [sum(part.nbytes for part in parts) / taken for taken in times(read, rounds)]


def ones(count: int, advice: int) -> np.ndarray:
    # Private: huge pages for shared memory are controlled by a different system setting.
    memory = mmap.mmap(-1, 4 * count, mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS)
    # A kernel without huge pages rejects the advice.
    with contextlib.suppress(OSError):
        memory.madvise(advice)
    values = np.frombuffer(memory, np.float32)
    values.fill(1)
    return values


def multiply_adds(rounds: int) -> list[float]:
    """Multiply-adds per second of NumPy's matrix multiplication on OPENBLAS_NUM_THREADS threads."""
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
    """Bytes of weights read per step as float32: all of the encoder's except those of `linear_pos`, which is computed at load."""
    graph = onnx.load(next(models.glob("nemo_*/encoder-model.onnx"))).graph
    positions = {name for node in graph.node if "linear_pos" in node.name for name in node.input}
    sizes = (len(tensor.raw_data) for tensor in graph.initializer if tensor.name not in positions)
    return sum(sizes)


def bytes_per_weight() -> int:
    """Bytes per weight in memory in nemostt's fastest format for this CPU, in fp32 (crates/nemostt-kernels, `gemm`)."""
    flags = set(re.findall(r"\w+", Path("/proc/cpuinfo").read_text()))
    return 3 if {"avx512f", "avx512bw", "avx512cd", "avx512dq", "avx512vl"} <= flags else 4


def step_multiply_adds(frames: int) -> int:
    """Multiply-adds of a step with `frames` encoder frames, without values that are the same at every step."""
    width, keys = synthetic_model.WIDTH, synthetic_model.LEFT + frames
    # Per row: two feed-forward modules (4 x as wide); queries, keys, values and output; the convolution module.
    row = 2 * 2 * 4 * width**2 + 4 * width**2 + (2 + 1) * width**2 + (synthetic_model.CONV + 1) * width
    # Content scores, position scores, weighted sum of the values.
    attention = frames * width * (keys + 2 * keys - 1 + keys)
    # Subsampling: three convolutions of stride 2 over 80 mels with 256 channels, the last two of them depthwise and
    # pointwise, and a linear layer. It also computes two frames that are dropped.
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
        "bandwidths": {pages: max(rates) for pages, rates in reading.items()},
        "multiply_adds": max(computing),
        "multiply_adds_median": statistics.median(computing),
        "weight_bytes": weight_bytes(models),
        "bytes_per_weight": bytes_per_weight(),
    }
