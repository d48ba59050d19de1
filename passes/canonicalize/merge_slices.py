"""Slices in a row along different axes as one."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import numpy as np
import onnx_graphsurgeon as gs

from optc.models.model import Model
from optc.passes.analysis.shapes import rank_of
from optc.passes.base import Context, Contract, Exact
from optc.passes.canonicalize.edit import Edit, edit_graphs

OLDEST = 10
"""Opset since which Slice takes its bounds as inputs."""

Bounds = dict[int, tuple[int, int, int]]
"""Start, end and step by axis."""


@dataclass(frozen=True)
class MergeSlices:
    """Make one Slice of two in a row whose constant bounds are on different axes."""

    name: ClassVar[str] = "merge-slices"
    contract: ClassVar[Contract] = Exact()

    def run(self, model: Model, context: Context) -> bool:
        """Merge; a value in the middle that others read keeps its node."""
        return edit_graphs(model, context, _merge)


def _merge(edit: Edit) -> bool:
    changed = False
    if edit.opset < OLDEST:
        return False
    for node in edit.nodes("Slice"):
        maker = edit.producer(node.inputs[0])
        if maker is None or maker.op != "Slice" or not edit.only_use(node.inputs[0]):
            continue
        first, second = _bounds(edit, maker), _bounds(edit, node)
        if first is not None and second is not None and not first.keys() & second.keys():
            _replace(edit, node, maker.inputs[0], first | second)
            changed = True
    return changed


def _bounds(edit: Edit, node: gs.Node) -> Bounds | None:
    """The bounds of a Slice, None where they are not constant or an axis cannot be told."""
    arrays = [edit.constant_input(node, index) for index in range(1, 5)]
    starts, ends, axes, steps = (None if a is None else [int(v) for v in a.ravel()] for a in arrays)
    rank = rank_of(node.inputs[0])
    if (
        starts is None
        or ends is None
        or any(edit.input(node, index) is not None and arrays[index - 1] is None for index in (3, 4))
    ):
        return None
    axes = list(range(len(starts))) if axes is None else axes
    steps = [1] * len(starts) if steps is None else steps
    if rank is None and min(axes, default=0) < 0:
        return None
    places = [axis + (rank or 0) if axis < 0 else axis for axis in axes]
    return dict(zip(places, zip(starts, ends, steps, strict=True), strict=True))


def _replace(edit: Edit, node: gs.Node, source: gs.Tensor, bounds: Bounds) -> None:
    columns = np.array([(*bounds[axis][:2], axis, bounds[axis][2]) for axis in sorted(bounds)], np.int64)
    base = node.outputs[0].name
    names = ("starts", "ends", "axes", "steps")
    constants = [edit.new_constant(f"{base}_{n}", columns[:, i]) for i, n in enumerate(names)]
    edit.set_inputs(node, [source, *constants])
