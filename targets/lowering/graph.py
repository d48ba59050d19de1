"""The ONNX graph that is lowered: flat, every node named, every value's type as far as it is known."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import onnx
from onnx import AttributeProto, TensorProto, inliner, shape_inference

from optc.models import storage
from optc.models.errors import InputError
from optc.models.model import Model
from optc.targets.feeds import shape_of
from optc.targets.lowering.ceil_mode import restate

Dims = tuple[int | str | None, ...]

DOMAINS = ("", "ai.onnx", "ai.onnx.ml", "ai.onnx.training", "ai.onnx.preview.training", "com.microsoft")
"""Operator domains that ONNX Runtime's wheel knows; local functions of any domain are inlined."""

_INFERENCE_LIMIT = 4096
"""Bytes: larger tensors never hold a shape, so shape inference need not see their data."""

_DATA_FIELDS = ("raw_data", "float_data", "int32_data", "int64_data", "double_data", "external_data")

_PASSED = frozenset(
    {
        TensorProto.FLOAT,
        TensorProto.DOUBLE,
        TensorProto.FLOAT16,
        TensorProto.BOOL,
        TensorProto.INT8,
        TensorProto.INT16,
        TensorProto.INT32,
        TensorProto.INT64,
        TensorProto.UINT8,
        TensorProto.UINT16,
        TensorProto.UINT32,
        TensorProto.UINT64,
    }
)
"""Element types that pass between TVM and ONNX Runtime as numpy arrays."""


@dataclass(frozen=True)
class Type:
    """Element type (ONNX's number) and dimensions of a tensor; a free dimension is a symbol, or None."""

    element: int
    dims: Dims

    @property
    def dtype(self) -> str:
        """The element type as numpy's and TVM's name."""
        return str(onnx.helper.tensor_dtype_to_np_dtype(self.element).name)


class Graph:
    """A model's nodes and types, ready to be lowered.

    `nodes`: in topological order, each with a name of its own, no Constant nodes, no local functions;
    `constants`: initializers by name, external ones into `folder`; `inputs`, `outputs`: names;
    `types`: of values that are tensors of a known rank; `symbols`: names of the inputs' free dimensions.
    """

    def __init__(self, model: Model) -> None:
        """Flatten `model`; `InputError` where a node's domain is none that ONNX Runtime knows."""
        proto = model.to_proto(embed=False)
        if proto.functions:
            proto = inliner.inline_local_functions(proto)
        check_domains(proto.graph)
        self.proto = proto
        self.folder: Path = model.folder
        _name_nodes(proto.graph)
        _lift_constants(proto.graph)
        self.nodes: list[onnx.NodeProto] = list(proto.graph.node)
        self.constants = {t.name: t for t in proto.graph.initializer}
        self.inputs = [i.name for i in proto.graph.input if i.name not in self.constants]
        self.outputs = [o.name for o in proto.graph.output]
        _name_free_dims(proto.graph)
        self._infer()
        while restate(proto.graph, self._sizes):
            self._infer()
        self.symbols = frozenset(d for i in self.inputs for d in self._dims(i) if isinstance(d, str))

    def _infer(self) -> None:
        self.infos = _infer(self.proto)
        self.types = {name: t for name, info in self.infos.items() if (t := _type(info)) is not None}

    def _sizes(self, name: str) -> tuple[int, ...] | None:
        """The sizes behind batch and channels, where all are fixed."""
        dims = self._dims(name)[2:]
        fixed = tuple(d for d in dims if isinstance(d, int))
        return fixed if dims and len(fixed) == len(dims) else None

    def _dims(self, name: str) -> Dims:
        return self.types[name].dims if name in self.types else ()

    def passable(self, name: str) -> Type | None:
        """The type of a value that can pass between TVM and ONNX Runtime, else None.

        Its rank is known, and each dimension is a number or a free dimension of an input.
        """
        found = self.types.get(name)
        if found is None or found.element not in _PASSED:
            return None
        known = all(isinstance(d, int) or d in self.symbols for d in found.dims)
        return found if known else None


def check_domains(graph: onnx.GraphProto) -> None:
    """`InputError` naming the first node of a domain that no part of optc can run."""
    for node in walk(graph):
        if node.domain not in DOMAINS:
            name = node.name or (node.output[0] if node.output else "?")
            raise InputError(
                f"node '{name}' ({node.op_type}): the domain '{node.domain}' is unknown to TVM and to ONNX "
                "Runtime, so it cannot be compiled; replace the node or give its function in the model",
                name,
            )


def walk(graph: onnx.GraphProto) -> Iterator[onnx.NodeProto]:
    """All nodes of a graph and of its subgraphs."""
    for node in graph.node:
        yield node
        for body in bodies(node):
            yield from walk(body)


def bodies(node: onnx.NodeProto) -> Iterator[onnx.GraphProto]:
    """The subgraphs of a control-flow node."""
    for attribute in node.attribute:
        if attribute.type == AttributeProto.GRAPH:
            yield attribute.g
        yield from attribute.graphs


def uses(node: onnx.NodeProto) -> list[str]:
    """The names of the values a node reads, those that its subgraphs take from outside included."""
    names = [n for n in node.input if n]
    for body in bodies(node):
        names += _captured(body)
    return list(dict.fromkeys(names))


def _captured(graph: onnx.GraphProto) -> list[str]:
    inside = {i.name for i in graph.input} | {t.name for t in graph.initializer}
    found: list[str] = []
    for node in graph.node:
        found += [n for n in uses(node) if n not in inside]
        inside.update(node.output)
    return found + [o.name for o in graph.output if o.name not in inside]


def _name_nodes(graph: onnx.GraphProto) -> None:
    """Give each node a name of its own: TVM's importer and the placement report need one."""
    seen: set[str] = set()
    for index, node in enumerate(graph.node):
        name = node.name or next((o for o in node.output if o), f"node{index}")
        while name in seen:
            name += f"_{index}"
        seen.add(name)
        node.name = name


def _name_free_dims(graph: onnx.GraphProto) -> None:
    """Give each unnamed free dimension of an input a symbol of its own."""
    for info in graph.input:
        dims = shape_of(info.type.tensor_type) or ()
        for place, dim in enumerate(dims):
            if dim is None:
                info.type.tensor_type.shape.dim[place].dim_param = f"{info.name}_dim{place}"


def _lift_constants(graph: onnx.GraphProto) -> None:
    """Turn Constant nodes of dense numbers into initializers."""
    kept: list[onnx.NodeProto] = []
    for node in graph.node:
        tensor = _constant(node) if node.op_type == "Constant" and node.domain in ("", "ai.onnx") else None
        if tensor is None:
            kept.append(node)
        else:
            tensor.name = node.output[0]
            graph.initializer.append(tensor)
    del graph.node[:]
    graph.node.extend(kept)


def _constant(node: onnx.NodeProto) -> TensorProto | None:
    attribute = node.attribute[0]
    if attribute.name == "value":
        tensor = TensorProto()
        tensor.CopyFrom(attribute.t)
        return tensor
    kinds = {
        "value_int": np.int64,
        "value_ints": np.int64,
        "value_float": np.float32,
        "value_floats": np.float32,
    }
    if attribute.name not in kinds:
        return None
    value = onnx.helper.get_attribute_value(attribute)
    return onnx.numpy_helper.from_array(np.asarray(value, kinds[attribute.name]))


def _infer(proto: onnx.ModelProto) -> dict[str, onnx.ValueInfoProto]:
    """What is known of each value's type, by ONNX's own inference."""
    light = onnx.ModelProto()
    light.CopyFrom(proto)
    for tensor in storage.tensors_of(light):
        if storage.byte_size(tensor) > _INFERENCE_LIMIT:
            for field in _DATA_FIELDS:
                tensor.ClearField(field)
            tensor.ClearField("data_location")
    with contextlib.suppress(shape_inference.InferenceError, RuntimeError, ValueError):
        light = shape_inference.infer_shapes(light, data_prop=True)
    graph = light.graph
    infos = {i.name: i for i in (*graph.value_info, *graph.input, *graph.output)}
    for tensor in proto.graph.initializer:
        infos[tensor.name] = onnx.helper.make_tensor_value_info(tensor.name, tensor.data_type, tensor.dims)
    return infos


def _type(info: onnx.ValueInfoProto) -> Type | None:
    if not info.type.HasField("tensor_type"):
        return None
    tensor = info.type.tensor_type
    dims = shape_of(tensor)
    if dims is None or not tensor.elem_type:
        return None
    return Type(tensor.elem_type, tuple(dims))
