"""Chains of operators that only change the shape: at most one is needed."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import numpy as np
import onnx_graphsurgeon as gs

from optc.models.model import Model
from optc.passes.analysis.shapes import reshape_target, same_data_shape, shape_of
from optc.passes.base import Context, Contract, Exact
from optc.passes.canonicalize.edit import Edit, edit_graphs

VIEWS = ("Reshape", "Flatten", "Squeeze", "Unsqueeze", "Transpose")
OLDEST = 5
"""Opset since which Reshape takes its shape as an input."""


@dataclass(frozen=True)
class MergeViews:
    """Make one Reshape of a chain of Reshape, Flatten, Squeeze, Unsqueeze; none where the shape returns.

    A Transpose counts as one of them where it only moves dimensions of 1.
    """

    name: ClassVar[str] = "merge-views"
    contract: ClassVar[Contract] = Exact()

    def run(self, model: Model, context: Context) -> bool:
        """Merge; a value in the middle that others read keeps its node."""
        return edit_graphs(model, context, _merge)


def _merge(edit: Edit) -> bool:
    changed = False
    if edit.opset < OLDEST:
        return False
    for node in edit.nodes(*VIEWS):
        before = _view_before(edit, node.inputs[0])
        if before is not None and _is_view(node):
            changed |= _back_to_root(edit, node) or _skip(edit, node, before)
    return changed


def _view_before(edit: Edit, tensor: gs.Tensor) -> gs.Node | None:
    maker = edit.producer(tensor)
    return maker if maker is not None and maker.op in VIEWS and _is_view(maker) else None


def _is_view(node: gs.Node) -> bool:
    """Whether the node keeps the order of the elements."""
    if node.op != "Transpose":
        return True
    shape = shape_of(node.inputs[0])
    if shape is None:
        return False
    perm = node.attrs.get("perm", list(reversed(range(len(shape)))))
    moved = [place for place in perm if shape[place] != 1]
    return moved == sorted(moved)


def _back_to_root(edit: Edit, node: gs.Node) -> bool:
    """Bypass the whole chain where an earlier value has the shape of its end."""
    target = shape_of(node.outputs[0])
    tensor = node.inputs[0]
    undone = _undoes(edit, node, edit.producer(tensor))
    while (maker := _view_before(edit, tensor)) is not None:
        tensor = maker.inputs[0]
        if undone or same_data_shape(shape_of(tensor), target):
            return edit.bypass(node, tensor)
    return False


def _undoes(edit: Edit, node: gs.Node, before: gs.Node | None) -> bool:
    """Squeeze after Unsqueeze of the same axes, or the other way round."""
    if before is None or {node.op, before.op} != {"Squeeze", "Unsqueeze"}:
        return False
    axes, undone = axes_of(edit, node), axes_of(edit, before)
    return axes is not None and undone is not None and sorted(axes) == sorted(undone)


def axes_of(edit: Edit, node: gs.Node) -> list[int] | None:
    """The constant axes of a node, from its attribute (before opset 13) or its second input."""
    if "axes" in node.attrs:
        return [int(a) for a in node.attrs["axes"]]
    values = edit.constant_input(node, 1)
    return None if values is None else [int(a) for a in values.ravel()]


def _skip(edit: Edit, node: gs.Node, before: gs.Node) -> bool:
    """Make `node` a Reshape of what is before the node before, which then nobody reads."""
    if not edit.only_use(node.inputs[0]):
        return False
    source = before.inputs[0]
    if _free_of_copies(edit, node):
        edit.set_input(node, 0, source)
        return True
    target = reshape_target(shape_of(source), shape_of(node.outputs[0]))
    if target is None:
        return False
    shape = edit.new_constant(f"{node.outputs[0].name}_shape", np.array(target, np.int64))
    edit.set_inputs(node, [source, shape])
    node.op, node.attrs = "Reshape", {}
    return True


def _free_of_copies(edit: Edit, node: gs.Node) -> bool:
    """Whether `node` is a Reshape to a constant shape that copies no dimension of its input."""
    if node.op != "Reshape":
        return False
    shape = edit.constant_input(node, 1)
    return shape is not None and (shape != 0).all()
