"""Two operators in a row that one does as well."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np
import onnx
import onnx_graphsurgeon as gs

from optc.models.export import element_type
from optc.models.model import Model
from optc.passes.analysis.shapes import rank_of
from optc.passes.base import Context, Contract, Exact
from optc.passes.canonicalize.edit import Edit, edit_graphs
from optc.passes.canonicalize.merge_views import axes_of

Rule = Callable[[Edit, gs.Node, gs.Node], bool]
"""Merge a node with the one that makes its first input; whether it did."""

OLDEST = 7
"""Opset since which the rules below describe the operators."""


@dataclass(frozen=True)
class MergePairs:
    """Merge Transpose with Transpose, Cast after a Cast that loses nothing, Concat into Concat, Relu of Relu.

    Also Neg of Neg, Not of Not; a reduction with the Squeeze or Unsqueeze of its axes (`keepdims`); and a Sum
    of two is an Add.
    """

    name: ClassVar[str] = "merge-pairs"
    contract: ClassVar[Contract] = Exact()

    def run(self, model: Model, context: Context) -> bool:
        """Merge in topological order, so that chains shrink to one."""
        return edit_graphs(model, context, _merge)


def _merge(edit: Edit) -> bool:
    changed = False
    if edit.opset < OLDEST:
        return False
    for node in edit.nodes(*_RULES, "Sum"):
        if node.op == "Sum":
            changed |= _sum_is_add(node)
            continue
        maker = edit.producer(node.inputs[0])
        if maker is not None:
            changed |= _RULES[node.op](edit, node, maker)
    return changed


def _sum_is_add(node: gs.Node) -> bool:
    if len(node.inputs) != 2:
        return False
    node.op = "Add"
    return True


def _transpose(edit: Edit, node: gs.Node, maker: gs.Node) -> bool:
    first, second = _permutation(maker), _permutation(node)
    if maker.op != "Transpose" or first is None or second is None:
        return False
    node.attrs["perm"] = [first[place] for place in second]
    edit.set_input(node, 0, maker.inputs[0])
    return True


def _permutation(node: gs.Node) -> list[int] | None:
    """What a Transpose does, reversing by default; None where the rank is not known."""
    rank = rank_of(node.inputs[0])
    if "perm" in node.attrs:
        return [int(place) for place in node.attrs["perm"]]
    return None if rank is None else list(reversed(range(rank)))


def _cast(edit: Edit, node: gs.Node, maker: gs.Node) -> bool:
    if maker.op != "Cast" or not _keeps_values(maker.inputs[0].dtype, maker.attrs.get("to")):
        return False
    edit.set_input(node, 0, maker.inputs[0])
    return True


def _keeps_values(source: Any, to: Any) -> bool:
    """Whether a cast maps every value of dtype `source` to the same number in ONNX type `to`."""
    if source is None or isinstance(source, int) or to is None:
        return False
    a, b = np.dtype(source), np.dtype(onnx.helper.tensor_dtype_to_np_dtype(element_type(to)))
    if a.kind not in "fiub" or b.kind not in "fiu":
        return False
    if b.kind == "f" and a.kind in "iu":
        return int(a.itemsize) * 8 <= int(np.finfo(b).nmant) + 1
    return bool(np.can_cast(a, b, "safe"))


def _twice(edit: Edit, node: gs.Node, maker: gs.Node) -> bool:
    """f(f(x)) = f(x)."""
    return maker.op == node.op and edit.bypass(node, node.inputs[0])


def _undo(edit: Edit, node: gs.Node, maker: gs.Node) -> bool:
    """f(f(x)) = x."""
    return maker.op == node.op and edit.bypass(node, maker.inputs[0])


def _concat(edit: Edit, node: gs.Node, _: gs.Node) -> bool:
    """Put the inputs of inner Concats that nobody else reads in their place."""
    inputs: list[gs.Tensor] = []
    for tensor in node.inputs:
        inner = edit.producer(tensor)
        joins = (
            inner is not None and inner.op == "Concat" and inner.attrs.get("axis") == node.attrs.get("axis")
        )
        inputs.extend(inner.inputs if inner is not None and joins and edit.only_use(tensor) else [tensor])
    if len(inputs) == len(node.inputs):
        return False
    edit.set_inputs(node, inputs)
    return True


def _keepdims(edit: Edit, node: gs.Node, maker: gs.Node) -> bool:
    """A reduction that drops its axes and an Unsqueeze that puts them back, or keeps them and a Squeeze."""
    reduces = maker.op.startswith("Reduce") and edit.only_use(node.inputs[0])
    keeps = bool(maker.attrs.get("keepdims", 1))
    if not reduces or keeps != (node.op == "Squeeze"):
        return False
    reduced, moved = axes_of(edit, maker), axes_of(edit, node)
    if not reduced or not moved or sorted(reduced) != sorted(moved):
        return False
    maker.attrs["keepdims"] = int(not keeps)
    result = node.outputs[0]
    edit.remove(node)
    edit.set_output(maker, 0, result)
    return True


_RULES: dict[str, Rule] = {
    "Transpose": _transpose,
    "Cast": _cast,
    "Concat": _concat,
    "Squeeze": _keepdims,
    "Unsqueeze": _keepdims,
    **dict.fromkeys(("Relu", "Abs", "Ceil", "Floor", "Round", "Sign"), _twice),
    **dict.fromkeys(("Neg", "Not"), _undo),
}
