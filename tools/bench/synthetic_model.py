# SPDX-License-Identifier: MIT OR Apache-2.0
"""Writes a full-size cache-aware FastConformer (114M parameters) with random weights, as NeMo exports it.

The graphs of weightless_model/ are NeMo's own export; only the weights are drawn here, the same on every machine. Speed and
memory are those of a trained model; the text is nonsense.
"""

import functools
from pathlib import Path

import numpy as np
import onnx
from onnx import numpy_helper

WEIGHTLESS_MODEL = Path(__file__).parent / "weightless_model"
LABELS, LAYERS, WIDTH, LEFT, CONV, MELS, LSTM = 1024, 17, 512, 70, 8, 80, 640


class Weights:
    """The same tensor has another name in each export: it is known by the encoder's or not, shape and order."""

    def __init__(self):
        self.drawn: dict[tuple, np.ndarray] = {}
        self.biases: dict[str, np.ndarray] = {}
        """End of a name -> what the joint has in place of the skeleton's."""

    def of_joint(self, dims: tuple) -> np.ndarray:
        """A weight of prediction network and joint, there once it was drawn."""
        return self.drawn[False, dims, 0]

    def fill(self, name: str) -> onnx.ModelProto:
        """The graph `name` with weights. What the skeleton lacks, it describes: "normal 0.02", or a table."""
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
    """Sines and cosines of positions from rows/2 down to -rows/2, as Transformer-XL has them."""
    length = (rows + 1) // 2
    position = np.arange(length - 1, -length, -1, dtype=np.float64)[:, None]
    rate = np.exp(np.arange(0, width, 2) * -(np.log(10000.0) / width))
    table = np.zeros((1, rows, width), np.float32)
    table[0, :, 0::2], table[0, :, 1::2] = np.sin(position * rate), np.cos(position * rate)
    return table


def pieces() -> list[str]:
    """Made-up pieces, every third of which begins a word; no real vocabulary is needed."""
    names = ["<unk>"]
    for label in range(1, LABELS):
        letters = "".join(chr(97 + label * step % 26) for step in (1, 7, 11)[: 1 + label % 3])
        names.append(("\u2581" if label % 3 == 1 else "") + letters)
    return names


def write_tokens(path: Path) -> None:
    names = [*pieces(), "<blk>"]
    path.write_text("".join(f"{name} {label}\n" for label, name in enumerate(names)), encoding="utf-8")
