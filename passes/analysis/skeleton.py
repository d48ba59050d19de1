"""A model without its large tensors, for the parts of the onnx package that take a whole ModelProto."""

from __future__ import annotations

from collections.abc import Iterator

import onnx
import onnx_graphsurgeon as gs
from onnx_graphsurgeon.ir.tensor import LazyValues, SparseValues

from optc.models.export import node_proto, source_of, tensor_proto, value_info
from optc.models.model import Model
from optc.models.storage import Sink, is_external

SMALL = 1024
"""Bytes: larger tensors are left out; no operator's shape or conversion depends on the values of one."""


def skeleton(model: Model, attributes: bool = False) -> onnx.ModelProto:
    """The model with every initializer over `SMALL` bytes turned into a graph input of its type and shape.

    Large tensors in attributes and subgraphs keep their type and shape but point to no data, unless
    `attributes` asks for whole nodes.
    """
    proto = onnx.ModelProto(ir_version=max(model.header.ir_version, 4))
    proto.opset_import.extend(model.header.opset_import)
    proto.functions.extend(model.header.functions)
    source = source_of(model.view)
    if source is not None and not model.changed:
        _strip(source, proto.graph)
    else:
        _export(model.view, proto.graph, set(model.overridable), _whole if attributes else _stub)
    proto.graph.name = model.name or "graph"
    return proto


def _strip(source: onnx.GraphProto, graph: onnx.GraphProto) -> None:
    graph.node.extend(source.node)
    graph.output.extend(source.output)
    graph.value_info.extend(source.value_info)
    graph.sparse_initializer.extend(source.sparse_initializer)
    known = {i.name for i in source.input}
    graph.input.extend(source.input)
    for tensor in source.initializer:
        if _small(tensor):
            graph.initializer.append(tensor)
        elif tensor.name not in known:
            graph.input.append(_as_input(tensor.name, tensor.data_type, list(tensor.dims)))


def _export(source: gs.Graph, graph: onnx.GraphProto, overridable: set[str], sink: Sink) -> None:
    graph.node.extend(node_proto(node, source, sink) for node in source.nodes)
    graph.input.extend(value_info(t) for t in source.inputs)
    graph.output.extend(value_info(t) for t in source.outputs)
    graph.value_info.extend(value_info(t) for t in _inner_values(source))
    for tensor in _constants(source):
        values = tensor._values
        if isinstance(values, SparseValues):
            graph.sparse_initializer.append(values.tensor)
        elif isinstance(values, LazyValues):
            if _small(values.tensor) and tensor.name not in overridable:
                graph.initializer.append(tensor_proto(tensor))
            else:
                graph.input.append(_as_input(tensor.name, values.tensor.data_type, list(values.tensor.dims)))
        elif values.nbytes <= SMALL and tensor.name not in overridable:
            graph.initializer.append(tensor_proto(tensor))
        else:
            graph.input.append(value_info(gs.Variable(tensor.name, tensor.export_dtype, list(values.shape))))


def _inner_values(graph: gs.Graph) -> Iterator[gs.Variable]:
    ends = {t.name for t in (*graph.inputs, *graph.outputs)}
    for node in graph.nodes:
        for tensor in node.outputs:
            if tensor.name and tensor.name not in ends and tensor.dtype is not None:
                yield tensor


def _constants(graph: gs.Graph) -> Iterator[gs.Constant]:
    """The constants that nodes read, at any depth, each name once."""
    seen: set[str] = set()
    pending = [graph]
    while pending:
        inner = pending.pop()
        for node in inner.nodes:
            for tensor in node.inputs:
                if isinstance(tensor, gs.Constant) and tensor.name not in seen:
                    seen.add(tensor.name)
                    yield tensor
            pending.extend(value for value in node.attrs.values() if isinstance(value, gs.Graph))


def _small(tensor: onnx.TensorProto) -> bool:
    if is_external(tensor) or tensor.data_type == onnx.TensorProto.STRING:
        return False
    count = 1
    for dim in tensor.dims:
        count *= dim
    return count * 8 <= SMALL


def _whole(tensor: onnx.TensorProto) -> onnx.TensorProto:
    return tensor


def _stub(tensor: onnx.TensorProto) -> onnx.TensorProto:
    if _small(tensor):
        return tensor
    stub = onnx.TensorProto(name=tensor.name, data_type=tensor.data_type, dims=tensor.dims)
    stub.data_location = onnx.TensorProto.EXTERNAL
    stub.external_data.add(key="location", value="none")
    return stub


def _as_input(name: str, data_type: int, dims: list[int]) -> onnx.ValueInfoProto:
    return onnx.helper.make_tensor_value_info(name, data_type, dims)
