"""Remove nodes whose output is their input."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import ClassVar

import numpy as np
import onnx_graphsurgeon as gs

from optc.models.export import element_type
from optc.models.model import Model
from optc.passes.analysis.shapes import broadcasts_into, rank_of, same_data_shape, same_shape, shape_of
from optc.passes.base import Context, Contract, Exact
from optc.passes.canonicalize.edit import Edit, edit_graphs

Rule = Callable[[Edit, gs.Node], gs.Tensor | None]
"""The input that a node passes through, None where it does something."""

OLDEST = 7
"""Opset since which the rules below describe the operators."""

END = 2**31 - 1
"""A Slice to this index or beyond goes to the end."""


@dataclass(frozen=True)
class RemoveNoops:
    """Remove Identity, Dropout in inference, and whatever else provably changes nothing.

    Reshape, Transpose, Expand, Tile, Pad, Slice, Cast, Resize, Concat, Sum, Max, Min, Mean,
    Split of one, adding 0, multiplying by 1. Nothing that would lose a NaN or an infinity. Names of inputs
    and outputs stay.
    """

    name: ClassVar[str] = "remove-noops"
    contract: ClassVar[Contract] = Exact()

    def run(self, model: Model, context: Context) -> bool:
        """Remove; what a graph's input and output names hold in place stays."""
        return edit_graphs(model, context, _remove)


def _remove(edit: Edit) -> bool:
    changed = False
    if edit.opset < OLDEST:
        return False
    for node in edit.nodes(*_RULES):
        source = _RULES[node.op](edit, node)
        if source is not None and source.name:
            changed |= edit.bypass(node, source)
    return changed


def _identity(edit: Edit, node: gs.Node) -> gs.Tensor | None:
    return node.inputs[0]


def _dropout(edit: Edit, node: gs.Node) -> gs.Tensor | None:
    if any(t.name and (t.outputs or edit.is_output(t)) for t in node.outputs[1:]):
        return None
    if edit.input(node, 2) is not None:
        training = edit.constant_input(node, 2)
        if training is None or training.any():
            return None
    return node.inputs[0]


def _same_shape(edit: Edit, node: gs.Node) -> gs.Tensor | None:
    """Operators that only change the shape."""
    source = node.inputs[0]
    return source if same_data_shape(shape_of(source), shape_of(node.outputs[0])) else None


def _repeats(edit: Edit, node: gs.Node) -> gs.Tensor | None:
    """Expand and Tile: no-ops where every dimension is proved to stay."""
    source = node.inputs[0]
    if same_shape(shape_of(source), shape_of(node.outputs[0])):
        return source
    amounts = edit.constant_input(node, 1)
    rank = rank_of(source)
    if amounts is None or amounts.ndim != 1 or rank is None or amounts.size > rank:
        return None
    return source if (amounts == 1).all() else None


def _transpose(edit: Edit, node: gs.Node) -> gs.Tensor | None:
    perm, rank = node.attrs.get("perm"), rank_of(node.inputs[0])
    still = rank is not None and rank <= 1 if perm is None else list(perm) == list(range(len(perm)))
    return node.inputs[0] if still else None


def _cast(edit: Edit, node: gs.Node) -> gs.Tensor | None:
    dtype = node.inputs[0].dtype
    to = node.attrs.get("to") if node.op == "Cast" else node.inputs[1].dtype
    if dtype is None or to is None:
        return None
    return node.inputs[0] if element_type(dtype) == element_type(to) else None


def _pad(edit: Edit, node: gs.Node) -> gs.Tensor | None:
    pads = edit.constant_input(node, 1) if "pads" not in node.attrs else np.array(node.attrs["pads"])
    return node.inputs[0] if pads is not None and not pads.any() else None


def _slice(edit: Edit, node: gs.Node) -> gs.Tensor | None:
    starts, ends = edit.constant_input(node, 1), edit.constant_input(node, 2)
    if starts is None or ends is None or starts.any():
        return None
    if edit.input(node, 4) is not None:
        steps = edit.constant_input(node, 4)
        if steps is None or (steps != 1).any():
            return None
    whole = (ends >= END).all() or same_shape(shape_of(node.inputs[0]), shape_of(node.outputs[0]))
    return node.inputs[0] if whole else None


def _resize(edit: Edit, node: gs.Node) -> gs.Tensor | None:
    scales = edit.constant_input(node, 2)
    plain = node.attrs.get("mode", "nearest") in ("nearest", "linear")
    cropped = node.attrs.get("coordinate_transformation_mode", "") == "tf_crop_and_resize"
    if not plain or cropped or edit.input(node, 3) is not None or scales is None or not scales.size:
        return None
    return node.inputs[0] if (scales == 1).all() else None


def _one_input(edit: Edit, node: gs.Node) -> gs.Tensor | None:
    return node.inputs[0] if len(node.inputs) == 1 else None


def _split(edit: Edit, node: gs.Node) -> gs.Tensor | None:
    return node.inputs[0] if len(node.outputs) == 1 else None


def _neutral(value: float, sides: tuple[int, ...]) -> Rule:
    """Arithmetic with a constant that is `value` everywhere, at one of the input places `sides`."""

    def rule(edit: Edit, node: gs.Node) -> gs.Tensor | None:
        for side in sides:
            tensor, source = node.inputs[side], node.inputs[1 - side]
            if not edit.is_constant(tensor) or isinstance(source, gs.Constant):
                continue
            if broadcasts_into(tuple(tensor.shape), shape_of(source)) and (tensor.values == value).all():
                return source
        return None

    return rule


_RULES: dict[str, Rule] = {
    "Identity": _identity,
    "Dropout": _dropout,
    "Reshape": _same_shape,
    "Flatten": _same_shape,
    "Squeeze": _same_shape,
    "Unsqueeze": _same_shape,
    "Expand": _repeats,
    "Tile": _repeats,
    "Transpose": _transpose,
    "Cast": _cast,
    "CastLike": _cast,
    "Pad": _pad,
    "Slice": _slice,
    "Resize": _resize,
    "Concat": _one_input,
    "Sum": _one_input,
    "Max": _one_input,
    "Min": _one_input,
    "Mean": _one_input,
    "Split": _split,
    "Add": _neutral(0, (0, 1)),
    "Sub": _neutral(0, (1,)),
    "Mul": _neutral(1, (0, 1)),
    "Div": _neutral(1, (1,)),
    "Pow": _neutral(1, (1,)),
}
