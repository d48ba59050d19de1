"""The two smaller float types, and what an operator's schema says of them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import onnx
import onnx_graphsurgeon as gs
from numpy.typing import NDArray
from onnx import TensorProto
from onnx.defs import OpSchema


@dataclass(frozen=True)
class Small:
    """A float type of 16 bits.

    `largest`: its largest finite number; `normal`: its smallest with full precision; `digits`: bits of its
    significand, so that a sum of ones stands still at `2**digits`.
    """

    name: str
    element: int
    largest: float
    normal: float
    digits: int

    @property
    def variable(self) -> Any:
        """A variable's dtype in GraphSurgeon: numpy's type, or ONNX's number where it has none."""
        return np.dtype(np.float16) if self.name == "float16" else self.element

    def array(self, values: NDArray[Any]) -> NDArray[Any]:
        """float32 `values` rounded to the type, to nearest, ties to even."""
        small: NDArray[Any] = values.astype(onnx.helper.tensor_dtype_to_np_dtype(self.element))
        return small


SMALL = {
    "float16": Small("float16", TensorProto.FLOAT16, 65504.0, 2.0**-14, 11),
    "bfloat16": Small("bfloat16", TensorProto.BFLOAT16, 255.0 * 2.0**120, 2.0**-126, 8),
}

FLOATS = {TensorProto.FLOAT16, TensorProto.BFLOAT16, TensorProto.DOUBLE}


@dataclass(frozen=True)
class Plan:
    """The inputs and outputs of a node, by index, that take the smaller type together."""

    node: gs.Node
    inputs: tuple[int, ...]
    outputs: tuple[int, ...]


def plan(
    node: gs.Node, wide_inputs: Sequence[int], wide_outputs: Sequence[int], opset: int | None, small: Small
) -> Plan | str:
    """What of `node` takes the `small` type at `opset` of its domain, or why nothing does.

    `wide_inputs`, `wide_outputs`: indices of those that are float32. Of the schema's type variables those
    change that both an input and an output have (the scales of a Resize or the statistics of a
    BatchNormalization stay float32); of a node without float32 outputs, such as Less, all.
    """
    schema = _schema(node, opset)
    if schema is None:
        return "ONNX does not define it, so which types it takes is not known"
    read = {i: _variable(schema.inputs, i) for i in wide_inputs}
    made = {i: _variable(schema.outputs, i) for i in wide_outputs}
    wanted = set(read.values()) & set(made.values()) if made else set(read.values())
    taken = {v for v in wanted if small.element in _elements(schema, v)}
    if not taken:
        return _refusal(node, opset, wanted, small)
    return Plan(
        node,
        tuple(i for i, v in read.items() if v in taken),
        tuple(i for i, v in made.items() if v in taken),
    )


def cast_refusal(opset: int, small: Small) -> str | None:
    """Why no Cast to the `small` type can be written at `opset`, None where one can."""
    first = 6 if small.name == "float16" else 13
    return (
        f"Cast takes no {small.name} before opset {first}; the model has opset {opset}"
        if opset < first
        else None
    )


def _schema(node: gs.Node, opset: int | None) -> OpSchema | None:
    try:
        return None if opset is None else onnx.defs.get_schema(node.op, opset, _domain(node))
    except onnx.defs.SchemaError:
        return None


def _domain(node: gs.Node) -> str:
    return "" if node.domain in (None, "ai.onnx") else str(node.domain)


def _variable(formal: Sequence[OpSchema.FormalParameter], index: int) -> str:
    """The type variable (or the one type) of a parameter; the last formal one may stand for many."""
    return formal[min(index, len(formal) - 1)].type_str


def _elements(schema: OpSchema, variable: str) -> set[int]:
    """The element types of the tensors that a type variable allows."""
    allowed = next((c.allowed_type_strs for c in schema.type_constraints if c.type_param_str == variable), [])
    return {small.element for small in SMALL.values() if f"tensor({small.name})" in allowed}


def _refusal(node: gs.Node, opset: int | None, wanted: set[str], small: Small) -> str:
    if not wanted:
        return "the type of its output does not follow that of its inputs"
    for later in range((opset or 0) + 1, onnx.defs.onnx_opset_version() + 1):
        schema = _schema(node, later) if not _domain(node) else None
        if schema is not None and any(small.element in _elements(schema, v) for v in wanted):
            return f"{node.op} takes no {small.name} before opset {later}; the model has opset {opset}"
    return f"{node.op} takes no {small.name} at opset {opset}"
