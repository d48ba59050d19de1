"""A GraphSurgeon graph, and what GraphSurgeon does not hold, as ONNX protos.

GraphSurgeon's importer and exporter drop node and value metadata, doc strings, device configurations,
attribute types they do not know, types other than tensors, and the bodies' details of functions.
`remember` hangs the source proto on each imported object; `export_graph` puts it back.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import numpy as np
import onnx
import onnx_graphsurgeon as gs
from onnx import AttributeProto, TensorProto
from onnx_graphsurgeon.ir.tensor import LazyValues, SparseValues

from optc.models.storage import Sink

_SOURCE = "_optc_source"
_IMPORTED_TYPE = "_optc_type"
_OWNER = "_optc_owner"

_KNOWN_ATTRIBUTES = {
    AttributeProto.FLOAT,
    AttributeProto.INT,
    AttributeProto.STRING,
    AttributeProto.TENSOR,
    AttributeProto.GRAPH,
    AttributeProto.FLOATS,
    AttributeProto.INTS,
    AttributeProto.STRINGS,
}


def source_of(item: Any) -> Any:
    """The proto that a node, variable or graph was imported from, or None if a pass made it."""
    return vars(item).get(_SOURCE)  # a Graph takes an attribute that it lacks for an operator, and complains


def remember(graph: gs.Graph, source: onnx.GraphProto) -> None:
    """Hang the protos of `source` on the nodes, values and subgraphs of `graph` imported from it."""
    _remember(graph, source, [])


def _remember(graph: gs.Graph, source: onnx.GraphProto, scopes: list[tuple[gs.Graph, set[str]]]) -> None:
    setattr(graph, _SOURCE, source)
    sparse = {t.values.name for t in source.sparse_initializer}
    scopes = [*scopes, (graph, {t.name for t in source.initializer} | sparse)]
    infos = {info.name: info for info in (*source.value_info, *source.input, *source.output)}
    for node, proto in zip(graph.nodes, source.node, strict=True):
        setattr(node, _SOURCE, proto)
        for tensor in node.outputs:
            _remember_value(tensor, infos)
        for tensor in node.inputs:
            _remember_owner(tensor, scopes)
        for attribute in proto.attribute:
            if attribute.type == AttributeProto.GRAPH and not attribute.ref_attr_name:
                _remember(node.attrs[attribute.name], attribute.g, scopes)
    for tensor in (*graph.inputs, *graph.outputs):
        _remember_value(tensor, infos)


def _remember_owner(tensor: gs.Tensor, scopes: list[tuple[gs.Graph, set[str]]]) -> None:
    """A constant stays in the graph that declared it, also where only a subgraph uses it."""
    if isinstance(tensor, gs.Constant) and len(scopes) > 1:
        owner = next((g for g, names in reversed(scopes) if tensor.name in names), None)
        setattr(tensor, _OWNER, owner)


def _remember_value(tensor: gs.Tensor, infos: dict[str, onnx.ValueInfoProto]) -> None:
    if isinstance(tensor, gs.Variable) and tensor.name in infos:
        setattr(tensor, _SOURCE, infos[tensor.name])
        setattr(tensor, _IMPORTED_TYPE, (tensor.dtype, _frozen(tensor.shape)))


def _frozen(shape: Any) -> Any:
    return None if shape is None else tuple(shape)


def element_type(dtype: Any) -> int:
    """The ONNX element type of a numpy (or ml_dtypes) dtype; an ONNX element type is passed through."""
    if isinstance(dtype, int):
        return dtype
    return int(onnx.helper.np_dtype_to_tensor_dtype(np.dtype(dtype)))


def tensor_proto(tensor: gs.Constant) -> TensorProto:
    """A dense constant as a TensorProto, to read only; values never loaded are taken over untouched."""
    values = tensor._values
    if isinstance(values, LazyValues):
        source: TensorProto = values.tensor
        if source.name == tensor.name:
            return source
        proto = TensorProto()
        proto.CopyFrom(source)
        proto.name = tensor.name
        return proto
    array = np.asarray(values)
    if array.dtype == np.float32 and tensor.export_dtype not in (None, array.dtype):
        array = array.astype(onnx.helper.tensor_dtype_to_np_dtype(element_type(tensor.export_dtype)))
    return onnx.numpy_helper.from_array(np.ascontiguousarray(array).reshape(array.shape), tensor.name)


def value_info(tensor: gs.Tensor) -> onnx.ValueInfoProto:
    """Name, dtype and shape of a value; taken from its source where neither changed since the import."""
    source = source_of(tensor)
    if source is not None and getattr(tensor, _IMPORTED_TYPE) == (tensor.dtype, _frozen(tensor.shape)):
        copied = onnx.ValueInfoProto()
        copied.CopyFrom(source)
        copied.name = tensor.name
        return copied
    if tensor.dtype is None:
        info = onnx.ValueInfoProto(name=tensor.name)
    else:
        info = onnx.helper.make_tensor_value_info(tensor.name, element_type(tensor.dtype), tensor.shape)
    if source is not None:
        _set(info, "doc_string", source.doc_string, source)
        info.metadata_props.extend(source.metadata_props)
    return info


def _set(proto: Any, field: str, value: str | None, source: Any) -> None:
    """Set a text; an empty one only where the source has the empty field too."""
    if value or (source is not None and source.HasField(field)):
        setattr(proto, field, value or "")


def _attribute(name: str, value: Any, sink: Sink, scopes: list[gs.Graph]) -> AttributeProto:
    if isinstance(value, gs.Node.AttributeRef):
        raise TypeError("attribute references live in functions, which are carried as protos")
    if isinstance(value, gs.Tensor):
        return onnx.helper.make_attribute(name, sink(tensor_proto(value)))
    if isinstance(value, gs.Graph):
        return onnx.helper.make_attribute(name, _export(value, sink, scopes, onnx.GraphProto()))
    if isinstance(value, type | np.dtype):
        return onnx.helper.make_attribute(name, element_type(value))
    if isinstance(value, list | tuple) and not value:
        return AttributeProto(name=name, type=AttributeProto.INTS)
    return onnx.helper.make_attribute(name, value)


def _node(node: gs.Node, sink: Sink, scopes: list[gs.Graph]) -> onnx.NodeProto:
    """One node with its attributes, and the metadata of the node that it was imported from."""
    proto = onnx.NodeProto(op_type=node.op)
    source = source_of(node)
    _set(proto, "name", node.name, source)
    _set(proto, "domain", node.domain, source)
    proto.input.extend(t.name for t in node.inputs)
    proto.output.extend(t.name for t in node.outputs)
    sources = {} if source is None else {a.name: a for a in source.attribute}
    for name, value in node.attrs.items():
        attribute = _attribute(name, value, sink, scopes)
        if name in sources:
            _set(attribute, "doc_string", sources[name].doc_string, sources[name])
            if isinstance(value, list | tuple) and not value:
                attribute.type = sources[name].type
        proto.attribute.append(attribute)
    if source is not None and source.op_type == node.op:
        _restore_node(proto, source)
    return proto


def node_proto(node: gs.Node, graph: gs.Graph, sink: Sink) -> onnx.NodeProto:
    """One node of the top-level `graph` as a proto; `sink` stores the tensors inside it."""
    return _node(node, sink, [graph])


def _restore_node(proto: onnx.NodeProto, source: onnx.NodeProto) -> None:
    _set(proto, "doc_string", source.doc_string, source)
    _set(proto, "overload", source.overload, source)
    proto.metadata_props.extend(source.metadata_props)
    proto.device_configurations.extend(source.device_configurations)
    kept = {a.name for a in proto.attribute}
    proto.attribute.extend(
        a for a in source.attribute if a.name not in kept and a.type not in _KNOWN_ATTRIBUTES
    )


def _constants(graph: gs.Graph, scopes: list[gs.Graph]) -> Iterable[gs.Constant]:
    """The constants that `graph` declares, each once, in order of first use."""
    inherited = {id(t) for outer in scopes for t in _used(outer) if isinstance(t, gs.Constant)}
    seen: set[int] = set()
    for tensor, user in _used_deep(graph):
        if not isinstance(tensor, gs.Constant) or id(tensor) in seen:
            continue
        owner = getattr(tensor, _OWNER, None)
        outside = id(tensor) in inherited or any(owner is g for g in scopes)
        if not outside and (user is graph or owner is graph):
            seen.add(id(tensor))
            yield tensor


def _used(graph: gs.Graph) -> Iterable[gs.Tensor]:
    for node in graph.nodes:
        yield from node.inputs
    yield from graph.outputs


def _used_deep(graph: gs.Graph) -> Iterable[tuple[gs.Tensor, gs.Graph]]:
    for tensor in _used(graph):
        yield tensor, graph
    for node in graph.nodes:
        for value in node.attrs.values():
            if isinstance(value, gs.Graph):
                yield from _used_deep(value)


def _values(graph: gs.Graph) -> Iterable[gs.Variable]:
    """The named variables that nodes of `graph` produce and that are not its inputs or outputs."""
    seen = {t.name for t in (*graph.inputs, *graph.outputs)}
    for node in graph.nodes:
        for tensor in node.outputs:
            if tensor.name and tensor.name not in seen:
                seen.add(tensor.name)
                if source_of(tensor) is not None or tensor.dtype is not None:
                    yield tensor


def export_graph(
    graph: gs.Graph, sink: Sink, proto: onnx.GraphProto, overridable: Iterable[str] = ()
) -> None:
    """Write `graph` into the empty `proto`, where each tensor is copied once.

    `sink` stores each tensor; `overridable` initializers are inputs too.
    """
    _export(graph, sink, [], proto)
    source = source_of(graph)
    if source is not None:
        names = set(overridable)
        proto.input.extend(i for i in source.input if i.name in names)
        used = {t.name for t in proto.initializer}
        unused = (t for t in source.initializer if t.name in names - used)
        proto.initializer.extend(sink(t) for t in unused)


def _export(graph: gs.Graph, sink: Sink, scopes: list[gs.Graph], proto: onnx.GraphProto) -> onnx.GraphProto:
    source = source_of(graph)
    _set(proto, "name", graph.name, source)
    _set(proto, "doc_string", graph.doc_string, source)
    proto.node.extend(_node(node, sink, [*scopes, graph]) for node in graph.nodes)
    proto.input.extend(value_info(t) for t in graph.inputs)
    proto.output.extend(value_info(t) for t in graph.outputs)
    proto.value_info.extend(value_info(t) for t in _values(graph))
    for tensor in _constants(graph, scopes):
        if isinstance(tensor._values, SparseValues):
            proto.sparse_initializer.append(tensor._values.tensor)
        else:
            proto.initializer.append(sink(tensor_proto(tensor)))
    if source is not None:
        proto.metadata_props.extend(source.metadata_props)
        proto.quantization_annotation.extend(source.quantization_annotation)
    return proto
