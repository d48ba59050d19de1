"""A node as the rules of tensor parallelism see it: shapes, attributes, constants; no graph around it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import onnx
import onnx_graphsurgeon as gs
from numpy.typing import NDArray
from onnx import numpy_helper

from optc.models import storage
from optc.models.model import Model
from optc.passes.analysis.counts import inferred_graph
from optc.passes.analysis.shapes import Dim, Shape, dim_of

Array = NDArray[Any]

SMALL = 4096
"""Bytes: larger constants hold no shapes, axes or scales that a rule looks at."""


@dataclass(frozen=True)
class Op:
    """An operator with what its inputs and outputs are, by position.

    `kind` is the ONNX name, with `domain::` before it where the domain is not the default one. `ins`, `outs`:
    shapes, None where there is no such input or its rank is not known. `constants`: positions of constant
    inputs; `values`: contents of the small ones. `given`: positions of the inputs that are there.
    """

    kind: str
    attrs: Mapping[str, Any]
    ins: tuple[Shape | None, ...]
    outs: tuple[Shape | None, ...]
    constants: frozenset[int]
    values: Mapping[int, Array]
    given: frozenset[int]
    opset: int

    def dim(self, place: int, axis: int) -> Dim:
        """The size of an axis of an input, None where not known."""
        shape = self.ins[place] if place < len(self.ins) else None
        return None if shape is None or not 0 <= axis < len(shape) else shape[axis]

    def rank(self, place: int) -> int | None:
        """The rank of an input, None where there is none or it is not known."""
        shape = self.ins[place] if place < len(self.ins) else None
        return None if shape is None else len(shape)

    def ints(self, name: str, place: int | None = None) -> list[int] | None:
        """Integers that stand in an attribute or, in newer opsets, in the constant input at `place`."""
        if name in self.attrs:
            return [int(v) for v in np.ravel(self.attrs[name])]
        values = self.values.get(place) if place is not None else None
        return None if values is None else [int(v) for v in values.ravel()]


@dataclass(frozen=True)
class Facts:
    """What is known of a model's values: their shapes, and which are constants."""

    shapes: Mapping[str, Shape]
    constants: Mapping[str, Array | None]
    opset: int

    @classmethod
    def of(cls, model: Model) -> Facts:
        """The facts of a model's main graph, local functions inlined."""
        return cls.of_graph(inferred_graph(model), model.opset)

    @classmethod
    def of_graph(cls, graph: onnx.GraphProto, opset: int) -> Facts:
        """The facts of a graph with inferred shapes. Initializers that a caller may override are values."""
        shapes = {}
        for info in (*graph.input, *graph.value_info, *graph.output):
            kind = info.type.tensor_type
            if info.type.HasField("tensor_type") and kind.HasField("shape"):
                shapes[info.name] = tuple(_dim(d) for d in kind.shape.dim)
        tensors = {tensor.name: tensor for tensor in graph.initializer}
        inputs = {info.name for info in graph.input}
        constants: dict[str, Array | None] = {
            name: _small(tensor) for name, tensor in tensors.items() if name not in inputs
        }
        for node in graph.node:
            if node.op_type == "Constant" and node.attribute:
                constants[node.output[0]] = _constant(node)
        shapes.update((name, tuple(tensor.dims)) for name, tensor in tensors.items())
        return cls(shapes, constants, opset)

    def op(self, node: onnx.NodeProto | gs.Node) -> Op:
        """The node as the rules see it; its names are those of the facts' model."""
        if isinstance(node, gs.Node):
            kind, domain, attrs = node.op, node.domain or "", dict(node.attrs)
            ins = [t.name for t in node.inputs]
            outs = [t.name for t in node.outputs]
        else:
            kind, domain = node.op_type, node.domain
            attrs = {a.name: _attribute(a) for a in node.attribute}
            ins, outs = list(node.input), list(node.output)
        known = {place: self.constants[name] for place, name in enumerate(ins) if name in self.constants}
        return Op(
            kind if domain in ("", "ai.onnx") else f"{domain}::{kind}",
            attrs,
            tuple(self.shapes.get(name) for name in ins),
            tuple(self.shapes.get(name) for name in outs),
            frozenset(known),
            {place: value for place, value in known.items() if value is not None},
            frozenset(place for place, name in enumerate(ins) if name),
            self.opset,
        )


def _dim(dim: onnx.TensorShapeProto.Dimension) -> Dim:
    return dim_of(dim.dim_value if dim.HasField("dim_value") else dim.dim_param)


def _attribute(attribute: onnx.AttributeProto) -> Any:
    value = onnx.helper.get_attribute_value(attribute)
    return value.decode() if isinstance(value, bytes) else value


def _small(tensor: onnx.TensorProto) -> Array | None:
    if storage.byte_size(tensor) > SMALL or storage.is_external(tensor):
        return None
    return numpy_helper.to_array(tensor)


def _constant(node: onnx.NodeProto) -> Array | None:
    """What a Constant node gives, None where it is large or holds no numbers."""
    attribute = node.attribute[0]
    value = onnx.helper.get_attribute_value(attribute)
    if isinstance(value, onnx.TensorProto):
        return _small(value)
    if attribute.name in ("value_float", "value_floats"):
        return np.asarray(value, np.float32)
    return np.asarray(value, np.int64) if attribute.name in ("value_int", "value_ints") else None
