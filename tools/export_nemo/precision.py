# SPDX-License-Identifier: MIT OR Apache-2.0
"""Smaller weights for the encoder graphs: half precision and 8-bit integers.

Prediction network and joint stay fp32 in every precision. They have a twentieth of the weights, each of their errors is
a wrong token that is fed back, and ONNX Runtime's LSTM does not support half precision on CPUs.
"""

import shutil
from pathlib import Path

import onnx
from onnx import numpy_helper

from . import fp16, onnx_edit
from .layouts import Layout

ENCODERS = ("encoder", "ctc")


def convert(files: dict[str, Path], layout: Layout, precision: str, target: Path, external: bool) -> dict[str, Path]:
    """Writes the fp32 graphs `files` in another precision to `target`: role -> file."""
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
    """Quantizes weights of matrix multiplications to int8 with a scale per output channel, activations to uint8.

    The subsampling stays fp32, because it processes the features directly and its errors affect everything; so do the
    depthwise convolutions, which have 9 weights per channel, norms, softmax and positions. Pointwise convolutions are
    converted to matrix multiplications first.
    """
    from onnxruntime.quantization import QuantType, quantize_dynamic

    model = onnx_edit.read(source)
    name_nodes(model)
    pointwise_to_matmul(model)
    prepared, quantized = scratch / ".prepared.onnx", scratch / ".quantized.onnx"
    large = onnx_edit.is_large(source)
    leftovers = (prepared, quantized, Path(f"{prepared}.data"), Path(f"{quantized}.data"))
    try:
        onnx_edit.write(model, prepared, large)
        quantize_dynamic(
            prepared,
            quantized,
            op_types_to_quantize=["MatMul"],
            per_channel=True,
            # 7 bits: CPUs without VNNI add two products of 8-bit numbers in 16 bits, which can overflow.
            reduce_range=True,
            weight_type=QuantType.QInt8,
            nodes_to_exclude=[node.name for node in model.graph.node if "pre_encode" in node.name],
            use_external_data_format=large,
        )
        return onnx_edit.read(quantized)
    finally:
        for path in leftovers:
            path.unlink(missing_ok=True)


def name_nodes(model: onnx.ModelProto) -> None:
    """Names unnamed nodes, because the converters identify nodes by name."""
    for number, node in enumerate(model.graph.node):
        node.name = node.name or f"{node.op_type}_{number}"


def pointwise_to_matmul(model: onnx.ModelProto) -> None:
    """1x1 Conv over [B, C, T] -> Transpose, MatMul, Add, Transpose; ONNX Runtime removes adjacent Transposes."""
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
