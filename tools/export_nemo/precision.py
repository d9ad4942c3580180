# SPDX-License-Identifier: MIT OR Apache-2.0
"""Smaller weights: half precision and 8-bit integers, of the encoder graphs.

Prediction network and joint stay fp32 in every precision. They hold a twentieth of the weights, each of their errors is
a wrong label that is fed back, and ONNX Runtime's LSTM knows no half precision on processors.
"""

import shutil
from pathlib import Path

import onnx
from onnx import numpy_helper

from . import fp16, onnx_edit
from .layouts import Layout

ENCODERS = ("encoder", "ctc")


def convert(files: dict[str, Path], layout: Layout, precision: str, target: Path, external: bool) -> dict[str, Path]:
    """Writes the set `files`, fp32, in another precision into `target`: role -> file."""
    target.mkdir(parents=True, exist_ok=True)
    converted = {}
    for role, source in files.items():
        smaller = role in ENCODERS
        converted[role] = target / layout.file(role, precision if smaller else "fp32")
        if not smaller:
            shutil.copyfile(source, converted[role])
            continue
        model = fp16.to_half(source) if precision == "fp16" else to_int8(source, target)
        onnx_edit.write(model, converted[role], external)
    return converted


def to_int8(source: Path, scratch: Path) -> onnx.ModelProto:
    """Weights of the matrix products as int8 with a scale per output channel, activations as uint8 on the fly.

    What stays in floats: the subsampling, which hears the features themselves and whose errors reach everything; the
    depthwise convolutions, which are 9 numbers a channel; norms, softmax, positions. Pointwise convolutions are matrix
    products in disguise and are made ones first.
    """
    from onnxruntime.quantization import QuantType, quantize_dynamic

    model = onnx_edit.read(source)
    name_nodes(model)
    pointwise_to_matmul(model)
    prepared, quantised = scratch / ".prepared.onnx", scratch / ".quantised.onnx"
    large = onnx_edit.is_large(source)
    leftovers = (prepared, quantised, Path(f"{prepared}.data"), Path(f"{quantised}.data"))
    try:
        onnx_edit.write(model, prepared, large)
        quantize_dynamic(
            prepared,
            quantised,
            op_types_to_quantize=["MatMul"],
            per_channel=True,
            # 7 bits: processors without VNNI add two products of 8 bits in 16, which can overflow.
            reduce_range=True,
            weight_type=QuantType.QInt8,
            nodes_to_exclude=[node.name for node in model.graph.node if "pre_encode" in node.name],
            use_external_data_format=large,
        )
        return onnx_edit.read(quantised)
    finally:
        for path in leftovers:
            path.unlink(missing_ok=True)


def name_nodes(model: onnx.ModelProto) -> None:
    """Gives a name to nodes without one: the converters go by names."""
    for number, node in enumerate(model.graph.node):
        node.name = node.name or f"{node.op_type}_{number}"


def pointwise_to_matmul(model: onnx.ModelProto) -> None:
    """Conv of kernel 1 over [B, C, T] -> Transpose, MatMul, Add, Transpose; ONNX Runtime takes out those that meet."""
    graph = model.graph
    weights = {tensor.name: tensor for tensor in graph.initializer}
    nodes, replaced = [], set()
    for node in graph.node:
        weight = weights.get(node.input[1]) if node.op_type == "Conv" else None
        attributes = {attribute.name: onnx.helper.get_attribute_value(attribute) for attribute in node.attribute}
        plain = not any(attributes.get("pads", [])) and attributes.get("strides", [1]) == [1]
        if weight is None or list(weight.dims[2:]) != [1] or attributes.get("group", 1) != 1 or not plain:
            nodes.append(node)
            continue
        name, transposed = node.name, f"{weight.name}_transposed"
        if weight.name not in replaced:
            graph.initializer.append(
                numpy_helper.from_array(numpy_helper.to_array(weight)[:, :, 0].T.copy(), transposed)
            )
            replaced.add(weight.name)
        make, frames = onnx.helper.make_node, [f"{name}_in", f"{name}_product", f"{name}_sum"]
        nodes.append(make("Transpose", [node.input[0]], [frames[0]], f"{name}_to_frames", perm=[0, 2, 1]))
        nodes.append(make("MatMul", [frames[0], transposed], [frames[1]], f"{name}_matmul"))
        last = frames[1]
        if len(node.input) > 2:
            nodes.append(make("Add", [last, node.input[2]], [frames[2]], f"{name}_bias"))
            last = frames[2]
        nodes.append(make("Transpose", [last], [node.output[0]], f"{name}_from_frames", perm=[0, 2, 1]))
    del graph.node[:]
    graph.node.extend(nodes)
    used = {name for node in graph.node for name in node.input}
    kept = [tensor for tensor in graph.initializer if tensor.name not in replaced or tensor.name in used]
    del graph.initializer[:]
    graph.initializer.extend(kept)
