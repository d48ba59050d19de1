"""How large a model is: nodes, parameters, multiply-accumulates, bytes."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from math import prod

import onnx
from onnx import TensorProto, inliner, shape_inference

from optc.models import storage
from optc.models.model import Model

Shape = tuple[int | None, ...]
"""Sizes of a value; None where a dimension is free."""

_FLOATS = {
    TensorProto.FLOAT,
    TensorProto.FLOAT16,
    TensorProto.BFLOAT16,
    TensorProto.DOUBLE,
    TensorProto.COMPLEX64,
    TensorProto.COMPLEX128,
}
_WEIGHT_INPUT = {
    "Conv": 1,
    "ConvInteger": 1,
    "QLinearConv": 3,
    "ConvTranspose": 1,
    "Gemm": 1,
    "MatMul": 1,
    "MatMulInteger": 1,
    "QLinearMatMul": 3,
    "DequantizeLinear": 0,
}
"""Operators whose weights count as parameters whatever their dtype, and at which input they stand."""

_INFERENCE_LIMIT = 4096
"""Bytes: larger tensors never hold a shape, so shape inference need not see their data."""


@dataclass(frozen=True)
class Counts:
    """The size of a model.

    `nodes`: without Constant nodes, subgraphs included; `parameters`: elements of the weights (scales and
    zero points of quantization, shapes and indices left out); `macs`: multiply-accumulates of one run;
    `bytes`: stored bytes of all tensors. `free`: some dimension is free and counts as 1 in `macs`;
    `unknown`: nodes whose MACs are not in `macs` because no shape could be inferred.
    """

    nodes: int
    parameters: int
    macs: int
    bytes: int
    free: bool = False
    unknown: int = 0


def count(model: Model) -> Counts:
    """Count `model` from its inferred shapes; a subgraph counts once, local functions are inlined.

    MACs are those of Conv and ConvTranspose (grouped too), Gemm and MatMul, and of their integer forms.
    """
    proto = model.to_proto(embed=False)
    stored = sum(storage.byte_size(t) for t in storage.tensors_of(proto))
    graph = _inferred(proto)
    macs = _Macs()
    macs.add_graph(graph, {})
    nodes = sum(1 for _ in _nodes(graph))
    return Counts(nodes, _parameters(graph), macs.total, stored, macs.free, macs.unknown)


def node_macs(model: Model) -> dict[str, int]:
    """MACs of the main graph's Conv, ConvTranspose, Gemm, MatMul and their integer forms, by first output.

    Free dimensions count as 1; nodes of unknown shape are left out.
    """
    return graph_macs(inferred_graph(model))


def inferred_graph(model: Model) -> onnx.GraphProto:
    """A copy of the graph with inferred shapes, local functions inlined, large tensors without their data."""
    return _inferred(model.to_proto(embed=False))


def graph_macs(graph: onnx.GraphProto) -> dict[str, int]:
    """`node_macs` of a graph that has its shapes already."""
    found, shapes = {}, _shapes(graph, {})
    for node in graph.node:
        one = _Macs()
        one.add_node(node, shapes)
        if one.total and not one.unknown:
            found[node.output[0]] = one.total
    return found


def _inferred(proto: onnx.ModelProto) -> onnx.GraphProto:
    """The graph with inferred shapes; the data of large tensors is dropped from `proto`."""
    for tensor in storage.tensors_of(proto):
        if storage.byte_size(tensor) > _INFERENCE_LIMIT:
            for field in (
                "raw_data",
                "float_data",
                "int32_data",
                "int64_data",
                "double_data",
                "external_data",
            ):
                tensor.ClearField(field)
            tensor.ClearField("data_location")
    try:
        if proto.functions:
            proto = inliner.inline_local_functions(proto)
        return shape_inference.infer_shapes(proto, data_prop=True).graph
    except (shape_inference.InferenceError, RuntimeError, ValueError):
        return proto.graph


def _nodes(graph: onnx.GraphProto) -> Iterator[onnx.NodeProto]:
    for node in graph.node:
        if node.op_type != "Constant":
            yield node
        for body in _bodies(node):
            yield from _nodes(body)


def _bodies(node: onnx.NodeProto) -> Iterator[onnx.GraphProto]:
    for attribute in node.attribute:
        if attribute.HasField("g"):
            yield attribute.g
        yield from attribute.graphs


def _parameters(graph: onnx.GraphProto) -> int:
    """Elements of the weights of `graph` and of its subgraphs."""
    weights = {n.input[_WEIGHT_INPUT[n.op_type]] for n in _nodes(graph) if _weight(n)}
    scales = {
        name
        for n in _nodes(graph)
        if n.op_type in ("QuantizeLinear", "DequantizeLinear")
        for name in n.input[1:]
    }
    return sum(
        prod(tensor.dims)
        for name, tensor in _constants(graph)
        if name in weights or (tensor.data_type in _FLOATS and name not in scales)
    )


def _weight(node: onnx.NodeProto) -> bool:
    return len(node.input) > _WEIGHT_INPUT.get(node.op_type, len(node.input))


def _constants(graph: onnx.GraphProto) -> Iterator[tuple[str, TensorProto]]:
    for tensor in graph.initializer:
        yield tensor.name, tensor
    for sparse in graph.sparse_initializer:
        yield sparse.values.name, TensorProto(dims=sparse.dims, data_type=sparse.values.data_type)
    for node in graph.node:
        if node.op_type == "Constant":
            yield from ((node.output[0], a.t) for a in node.attribute if a.HasField("t"))
        for body in _bodies(node):
            yield from _constants(body)


def _shapes(graph: onnx.GraphProto, outer: Mapping[str, Shape]) -> dict[str, Shape]:
    shapes = dict(outer)
    for info in (*graph.input, *graph.value_info, *graph.output):
        if info.type.tensor_type.HasField("shape"):
            dims = info.type.tensor_type.shape.dim
            shapes[info.name] = tuple(
                d.dim_value if d.HasField("dim_value") and d.dim_value >= 0 else None for d in dims
            )
    shapes.update((name, tuple(tensor.dims)) for name, tensor in _constants(graph))
    return shapes


class _Macs:
    """The sum over the nodes; `free` and `unknown` as in `Counts`."""

    def __init__(self) -> None:
        self.total = 0
        self.free = False
        self.unknown = 0

    def add_graph(self, graph: onnx.GraphProto, outer: Mapping[str, Shape]) -> None:
        """Add all nodes of `graph` and of its subgraphs, which see the values of `outer`."""
        shapes = _shapes(graph, outer)
        for node in graph.node:
            for body in _bodies(node):
                self.add_graph(body, shapes)
            self.add_node(node, shapes)

    def add_node(self, node: onnx.NodeProto, shapes: Mapping[str, Shape]) -> None:
        """Add a node by itself, whatever it is."""
        if node.op_type not in _WEIGHT_INPUT or node.op_type == "DequantizeLinear":
            return
        try:
            dims = _mac_dims(node, shapes)
        except (KeyError, IndexError):
            self.unknown += 1
            return
        self.free |= None in dims
        self.total += prod(1 if d is None else d for d in dims)


def _mac_dims(node: onnx.NodeProto, shapes: Mapping[str, Shape]) -> Shape:
    """The sizes whose product is the node's MACs; `KeyError` where a shape is not known."""
    op = node.op_type
    if op == "ConvTranspose":
        # Each input element meets every weight of its input channel: W is [C, M/group, kernel].
        return shapes[node.input[0]] + shapes[node.input[1]][1:]
    output = shapes[node.output[0]]
    if "Conv" in op:
        # Each output element sums over W[m], of shape [C/group, kernel].
        return output + shapes[node.input[_WEIGHT_INPUT[op]]][1:]
    transposed = op == "Gemm" and any(a.name == "transA" and a.i for a in node.attribute)
    return (*output, shapes[node.input[0]][0 if transposed else -1])
