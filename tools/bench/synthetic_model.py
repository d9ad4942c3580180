# SPDX-License-Identifier: MIT OR Apache-2.0
"""Creates a full-size cache-aware FastConformer (114M parameters) with random weights, as NeMo exports it.

The graphs in weightless_model/ were exported by NeMo. Only the weights are generated here, the same on every machine.
Speed and memory are those of a trained model; the text is nonsense.
"""

import functools
from pathlib import Path

import numpy as np
import onnx
from onnx import numpy_helper

WEIGHTLESS_MODEL = Path(__file__).parent / "weightless_model"
TOKENS, LAYERS, WIDTH, LEFT, CONV, MELS, LSTM = 1024, 17, 512, 70, 8, 80, 640


class Weights:
    """Random weights, shared by all exports. Tensor names differ between exports, so a tensor is identified by whether
    it belongs to the encoder, its shape, and its position among the names of that shape."""

    def __init__(self):
        self.drawn: dict[tuple, np.ndarray] = {}
        self.biases: dict[str, np.ndarray] = {}
        """Suffix of a tensor name -> bias that replaces the graph's, outside the encoder."""

    def of_joint(self, dims: tuple) -> np.ndarray:
        """A weight of the prediction network or joint; `fill` must have generated it."""
        return self.drawn[False, dims, 0]

    def fill(self, name: str) -> onnx.ModelProto:
        """The graph `name` with weights, generated as the doc_string of each tensor says: "normal 0.02", or a table."""
        model = onnx.load(WEIGHTLESS_MODEL / name)
        same_shape: dict[tuple, list[str]] = {}
        for tensor in model.graph.initializer:
            same_shape.setdefault(tuple(tensor.dims), []).append(tensor.name)
        for tensor in model.graph.initializer:
            dims = tuple(tensor.dims)
            if tensor.doc_string.startswith("normal "):
                key = (name.startswith("encoder"), dims, sorted(same_shape[dims]).index(tensor.name))
                if key not in self.drawn:
                    generator = np.random.default_rng(len(self.drawn) + 1)
                    scale = float(tensor.doc_string.split()[1])
                    self.drawn[key] = (generator.standard_normal(dims) * scale).astype(np.float32)
                tensor.CopyFrom(numpy_helper.from_array(self.drawn[key], tensor.name))
            for end, bias in self.biases.items():
                if tensor.name.endswith(end) and not name.startswith("encoder"):
                    tensor.CopyFrom(numpy_helper.from_array(bias.astype(np.float32), tensor.name))
        for node in model.graph.node:
            for attribute in node.attribute:
                if attribute.t.doc_string == "relative_positions":
                    table = relative_positions(*attribute.t.dims[1:])
                    attribute.t.CopyFrom(numpy_helper.from_array(table, attribute.t.name))
        return model


@functools.cache
def relative_positions(rows: int, width: int) -> np.ndarray:
    """Sinusoidal encoding of the positions rows/2 down to -rows/2, as in Transformer-XL."""
    length = (rows + 1) // 2
    position = np.arange(length - 1, -length, -1, dtype=np.float64)[:, None]
    rate = np.exp(np.arange(0, width, 2) * -(np.log(10000.0) / width))
    table = np.zeros((1, rows, width), np.float32)
    table[0, :, 0::2], table[0, :, 1::2] = np.sin(position * rate), np.cos(position * rate)
    return table


def pieces() -> list[str]:
    """A synthetic vocabulary in which every third piece begins a word."""
    names = ["<unk>"]
    for token in range(1, TOKENS):
        letters = "".join(chr(97 + token * step % 26) for step in (1, 7, 11)[: 1 + token % 3])
        names.append(("\u2581" if token % 3 == 1 else "") + letters)
    return names


def write_tokens(path: Path) -> None:
    names = [*pieces(), "<blk>"]
    path.write_text("".join(f"{name} {token}\n" for token, name in enumerate(names)), encoding="utf-8")
