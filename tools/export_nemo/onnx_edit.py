# SPDX-License-Identifier: MIT OR Apache-2.0
"""Graph editing: reading and writing at any size, names, axes, metadata, the drop input and the position table."""

from pathlib import Path

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

# A protobuf is limited to 2 GiB; the difference leaves room for everything besides weights (nodes, the position table).
EXTERNAL_FROM = 1_900_000_000
DROP_INPUT = "drop_extra_pre_encoded"


def read(path: Path, weights: bool = True) -> onnx.ModelProto:
    return onnx.load(str(path), load_external_data=weights)


def write(model: onnx.ModelProto, path: Path, external: bool = False) -> None:
    """Writes a graph; its weights go to `NAME.onnx.data` if they are too large or `external` is set."""
    path.parent.mkdir(parents=True, exist_ok=True)
    if external or model.ByteSize() >= EXTERNAL_FROM:
        location = f"{path.name}.data"
        # onnx appends to an existing file.
        (path.parent / location).unlink(missing_ok=True)
        onnx.save(model, str(path), save_as_external_data=True, location=location, size_threshold=1024)
    else:
        onnx.save(model, str(path))


def is_large(path: Path) -> bool:
    """Whether the weights of a graph are in a separate file, or would have to be."""
    return path.stat().st_size >= EXTERNAL_FROM or Path(f"{path}.data").exists()


def set_metadata(model: onnx.ModelProto, values: dict) -> None:
    del model.metadata_props[:]
    for key, value in values.items():
        model.metadata_props.add(key=key, value=str(value))


def rename(model: onnx.ModelProto, names: dict[str, str]) -> None:
    """Renames tensors everywhere in the graph."""
    graph = model.graph
    for info in (*graph.input, *graph.output, *graph.value_info):
        info.name = names.get(info.name, info.name)
    for node in graph.node:
        node.input[:] = [names.get(name, name) for name in node.input]
        node.output[:] = [names.get(name, name) for name in node.output]


def layers_first(model: onnx.ModelProto, caches: dict[str, str]) -> None:
    """Transposes the caches, input -> output, from [B, layers, …] to [layers, B, …].

    NeMo's export transposes both (`forward_for_export`), so this removes a Transpose node at either end.
    """
    graph = model.graph
    producers = {name: node for node in graph.node for name in node.output}
    for taken, given in caches.items():
        inner = next(node for node in graph.node if taken in node.input)
        outer = producers[given]
        for node in (inner, outer):
            swap = next((list(attribute.ints) for attribute in node.attribute if attribute.name == "perm"), None)
            if node.op_type != "Transpose" or swap != [1, 0, 2, 3]:
                raise ValueError(f"{node.op_type} {node.name} at {taken} is not the transposition that NeMo exports")
        outer_source, inner_result = outer.input[0], inner.output[0]
        graph.node.remove(inner)
        graph.node.remove(outer)
        for node in graph.node:
            node.input[:] = [taken if name == inner_result else name for name in node.input]
            node.input[:] = [given if name == outer_source else name for name in node.input]
            node.output[:] = [given if name == outer_source else name for name in node.output]


def set_shape(info: onnx.ValueInfoProto, shape: list[int | str]) -> None:
    """Names or fixes the axes of an input or output."""
    dims = info.type.tensor_type.shape.dim
    del dims[:]
    for size in shape:
        dims.add(**({"dim_value": size} if isinstance(size, int) else {"dim_param": size}))


def constants(model: onnx.ModelProto) -> dict[str, int]:
    """Constant integer tensors with a single element."""
    tensors = [(tensor.name, tensor) for tensor in model.graph.initializer]
    for node in model.graph.node:
        if node.op_type == "Constant":
            tensors += [(node.output[0], attribute.t) for attribute in node.attribute if attribute.name == "value"]
    small = (TensorProto.INT64, TensorProto.INT32)
    single = (
        (name, tensor) for name, tensor in tensors if tensor.data_type in small and list(tensor.dims) in ([], [1])
    )
    return {name: int(numpy_helper.to_array(tensor).reshape(-1)[0]) for name, tensor in single}


def make_drop_an_input(model: onnx.ModelProto) -> None:
    """Replaces the built-in number of dropped frames by an input, int64 [1], as nemostt does when it loads a graph.

    It occurs in two places (`ConformerEncoder.forward_internal`): a Sub followed by a Clip from 0 subtracts it from the
    length, and a Slice of axis 1 to the end drops the frames.
    """
    values, nodes = constants(model), model.graph.node
    value = lambda node, index: values.get(node.input[index]) if index < len(node.input) else None
    clipped = {node.input[0] for node in nodes if node.op_type == "Clip" and value(node, 1) == 0}
    subs = [
        node for node in nodes if node.op_type == "Sub" and node.output[0] in clipped and value(node, 1) is not None
    ]
    if len(subs) != 1:
        raise ValueError(f"{len(subs)} places shorten the length by the dropped frames, expected 1")
    drop = value(subs[0], 1)
    slices = [
        node
        for node in nodes
        if node.op_type == "Slice" and value(node, 1) == drop and value(node, 3) == 1 and value(node, 2) == 2**63 - 1
    ]
    if len(slices) != 1:
        raise ValueError(f"{len(slices)} places drop {drop} frames, expected 1")
    subs[0].input[1] = slices[0].input[1] = DROP_INPUT
    model.graph.input.append(helper.make_tensor_value_info(DROP_INPUT, TensorProto.INT64, [1]))


def cut_positions(model: onnx.ModelProto, keep: int) -> None:
    """Keeps `keep` rows on either side of the position table's middle, and updates the constant with its middle.

    NeMo writes 9999 rows or more; a stream reads left + 2 (R + 1) of them. For small test data: longer windows fail.
    """
    for node in model.graph.node:
        for attribute in node.attribute:
            dims = list(attribute.t.dims)
            if attribute.name != "value" or len(dims) != 3 or dims[0] != 1 or dims[1] <= 2 * keep:
                continue
            table = numpy_helper.to_array(attribute.t)
            middle = (table.shape[1] + 1) // 2
            kept = np.ascontiguousarray(table[:, middle - keep : middle + keep - 1])
            attribute.t.CopyFrom(numpy_helper.from_array(kept, attribute.t.name))
            move_constant(model, middle, keep)
            return


def move_constant(model: onnx.ModelProto, old: int, new: int) -> None:
    for node in model.graph.node:
        for attribute in node.attribute:
            if node.op_type == "Constant" and attribute.name == "value" and attribute.t.data_type == TensorProto.INT64:
                value = numpy_helper.to_array(attribute.t)
                if value.size == 1 and value.item() == old:
                    moved = np.full(value.shape, new, np.int64)
                    attribute.t.CopyFrom(numpy_helper.from_array(moved, attribute.t.name))
