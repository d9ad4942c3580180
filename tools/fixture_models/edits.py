# SPDX-License-Identifier: MIT OR Apache-2.0
"""Faults that are a single edit of a valid graph: the edit, and how ONNX Runtime alone reacts to it.

Tests can redo each edit in a line or two, so there are no files for them. Run by `tools/fixture_models faults`.
"""
import numpy as np
import onnx
from build import DATA
from onnx import TensorProto, numpy_helper
from streaming import Graph


def tensor(model, name):
    return next(i for i in model.graph.input if i.name == name).type.tensor_type


def batch_of_two(model):
    """Axis 0 of every input of the encoder is 2."""
    for value in model.graph.input:
        value.type.tensor_type.shape.dim[0].dim_value = 2


def length_int32(model):
    """Input `length` is declared int32."""
    tensor(model, "length").elem_type = TensorProto.INT32


def cache_len_int32(model):
    """Input `cache_last_channel_len` is declared int32."""
    tensor(model, "cache_last_channel_len").elem_type = TensorProto.INT32


def cache_of_64(model):
    """Axis 2 of input `cache_last_channel` is 64, where the graph computes with 70."""
    tensor(model, "cache_last_channel").shape.dim[2].dim_value = 64


def conv_cache_of_4(model):
    """Axis 3 of input `cache_last_time` is 4, where the kernel of 9 needs 8."""
    tensor(model, "cache_last_time").shape.dim[3].dim_value = 4


def weight_nan(model):
    """The first number of the largest initializer is NaN."""
    largest = max(model.graph.initializer, key=lambda t: len(t.raw_data))
    values = numpy_helper.to_array(largest).copy()
    values.flat[0] = np.nan
    largest.CopyFrom(numpy_helper.from_array(values, largest.name))


EDITS = (batch_of_two, length_int32, cache_len_int32, cache_of_64, conv_cache_of_4, weight_nan)


def step(graph, mels=80, layers=2, width=48):
    """Runs a graph on one window of noise with the sizes that it declares."""
    batch = graph.inputs[0].shape[0] if isinstance(graph.inputs[0].shape[0], int) else 1
    fixed = lambda name, axis, otherwise: next(
        (i.shape[axis] for i in graph.inputs if i.name == name and isinstance(i.shape[axis], int)), otherwise)
    noise = np.random.default_rng(1).standard_normal((batch, mels, 121))
    channel = np.zeros((batch, layers, fixed("cache_last_channel", 2, 70), width))
    time = np.zeros((batch, layers, width, fixed("cache_last_time", 3, 8)))
    encoded = graph(noise, [121] * batch, channel, time, [0] * batch)[0]
    return f"output {list(encoded.shape)}, {np.isnan(encoded).mean():.0%} NaN"


def show():
    for edit in EDITS:
        model = onnx.load(DATA / "layouts" / "nemo" / "encoder-model.onnx")
        edit(model)
        try:
            result = step(Graph(model.SerializeToString()))
        except Exception as error:  # The message is the result.
            result = str(error).splitlines()[0][:160]
        print(f"{edit.__name__}: {edit.__doc__} ONNX Runtime: {result}", flush=True)
