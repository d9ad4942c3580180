# SPDX-License-Identifier: MIT OR Apache-2.0
"""Converts a graph to half precision.

ONNX Runtime's converter casts a tensor twice if two nodes that stay fp32 share it, which makes the graph invalid. Here
it is also known which nodes must stay fp32.
"""

from pathlib import Path

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

from . import onnx_edit

FULL, HALF = TensorProto.FLOAT, TensorProto.FLOAT16
LARGEST = float(np.finfo(np.float16).max)
# ONNX has no half-precision version of it.
ALWAYS_FULL = ("Range",)


def to_half(source: Path) -> onnx.ModelProto:
    """Inputs and outputs, including caches, stay f32, so that every reader can use the file like an fp32 one."""
    model = onnx_edit.read(source)
    graph = model.graph
    floats = float_tensors(model, source)
    full = full_nodes(model)
    at_full = {id(node) for node in full}
    # Tensors that are produced as f32: by nodes that stay fp32, and the graph's inputs.
    made_full = {name for node in full for name in node.output} | {info.name for info in graph.input}
    constants = {tensor.name: tensor for tensor in graph.initializer}
    outputs = {info.name for info in graph.output} & floats
    nodes, cast = [], {}

    def as_type(name: str, kind: int) -> str:
        """The tensor `name` in type `kind`; cast once, where it is first needed."""
        if name not in floats or (kind == FULL) == (name in made_full):
            return name
        twin = f"{name}_{'fp32' if kind == FULL else 'fp16'}"
        if twin not in cast:
            nodes.append(helper.make_node("Cast", [name], [twin], f"{twin}_cast", to=kind))
            cast[twin] = name
        return twin

    for node in graph.node:
        kind = FULL if id(node) in at_full else HALF
        node.input[:] = [as_type(name, kind) for name in node.input]
        if kind == HALF:
            halve_attributes(node)
        given = [name for name in node.output if name in outputs and kind == HALF]
        node.output[:] = [f"{name}_fp16" if name in given else name for name in node.output]
        nodes.append(node)
        for name in given:
            # Consumers inside the graph use the fp16 version.
            cast[f"{name}_fp16"] = name
            made_full.add(name)
            nodes.append(helper.make_node("Cast", [f"{name}_fp16"], [name], f"{name}_cast", to=FULL))
    for tensor in constants.values():
        if tensor.data_type == FULL:
            tensor.CopyFrom(halved(tensor))
    nodes = [onnx.NodeProto.FromString(node.SerializeToString()) for node in nodes]
    del graph.node[:]
    graph.node.extend(nodes)
    del graph.value_info[:]
    return model


def float_tensors(model: onnx.ModelProto, source: Path) -> set[str]:
    """Names of all f32 tensors."""
    # Without the weights, which types do not depend on: a protobuf with them may be too large.
    light = onnx_edit.read(source, weights=False) if onnx_edit.is_large(source) else model
    graph = onnx.shape_inference.infer_shapes(light).graph
    infos = (*graph.input, *graph.output, *graph.value_info)
    found = {info.name for info in infos if info.type.tensor_type.elem_type == FULL}
    return found | {tensor.name for tensor in graph.initializer if tensor.data_type == FULL}


def full_nodes(model: onnx.ModelProto) -> list[onnx.NodeProto]:
    """Nodes that only compute lengths. NeMo computes them in floats, and half precision is exact only up to 2048."""
    graph = model.graph
    known = {tensor.name for tensor in graph.initializer}
    known |= {node.output[0] for node in graph.node if node.op_type == "Constant"}
    lengths = {info.name for info in graph.input if info.type.tensor_type.elem_type == TensorProto.INT64}
    found = []
    for node in graph.node:
        inputs = {name for name in node.input if name}
        of_lengths = bool(inputs & lengths) and inputs <= lengths | known
        if of_lengths:
            lengths.update(node.output)
        if of_lengths or node.op_type in ALWAYS_FULL:
            found.append(node)
    return found


def halve_attributes(node: onnx.NodeProto) -> None:
    """Converts constants of a node, and the type that it casts to."""
    for attribute in node.attribute:
        if attribute.name == "to" and node.op_type == "Cast" and attribute.i == FULL:
            attribute.i = HALF
        elif attribute.type == onnx.AttributeProto.TENSOR and attribute.t.data_type == FULL:
            attribute.t.CopyFrom(halved(attribute.t))


def halved(tensor: TensorProto) -> TensorProto:
    values = numpy_helper.to_array(tensor).clip(-LARGEST, LARGEST).astype(np.float16)
    return numpy_helper.from_array(values, tensor.name)
