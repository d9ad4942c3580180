#!/usr/bin/env python3
# SPDX-License-Identifier: MIT OR Apache-2.0
"""Store the weights that two graphs have in common only once.

    python3 tools/share_weights.py GRAPH OTHER           (needs onnx; both in the same directory)

NeMo exports the encoder of a hybrid model twice: as encoder-model.onnx for RNN-T, and in ctc.onnx together with the
CTC head. Every large weight of GRAPH (ctc.onnx) whose bytes are in the file OTHER (encoder-model.onnx) becomes ONNX
external data: the name of that file, an offset and a length. OTHER is not changed. Reading GRAPH with its external
data, as onnx.load does, gives exactly the graph that it was.
"""
import sys
from pathlib import Path

import onnx
from onnx.external_data_helper import set_external_data

# Smaller tensors may be read as shapes or limits before external data is loaded, and would save nothing.
LARGE = 4096


def share(graph_path, other_path):
    if graph_path.resolve().parent != other_path.resolve().parent:
        sys.exit(f"{other_path} is not in the directory of {graph_path}: external data must be")
    model, other, shared = onnx.load(graph_path), other_path.read_bytes(), 0
    for tensor in model.graph.initializer:
        length = len(tensor.raw_data)
        offset = other.find(tensor.raw_data) if length >= LARGE else -1
        if offset >= 0:
            set_external_data(tensor, location=other_path.name, offset=offset, length=length)
            tensor.ClearField("raw_data")
            shared += length
    graph_path.write_bytes(model.SerializeToString())
    left = graph_path.stat().st_size
    print(f"{graph_path}: {shared} bytes of weights are read from {other_path.name}, {left} bytes are left")


if __name__ == "__main__":
    if len(sys.argv) != 3:
        sys.exit(__doc__)
    share(Path(sys.argv[1]), Path(sys.argv[2]))
