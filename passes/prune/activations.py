"""Norms of the activations that each weight of a layer multiplies."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import onnx_graphsurgeon as gs
from numpy.typing import NDArray

from optc.models.model import Model
from optc.passes.base import Context
from optc.passes.calibrate import observe

Array = NDArray[Any]
Weight = tuple[gs.Node, int]
"""A layer, and at which of its inputs the weight stands."""


class SquareSums:
    """Sums of squares along given axes of all arrays seen; `total`: by axis."""

    def __init__(self) -> None:
        self.total: dict[int, Array | float] = {}

    def add(self, values: Array) -> None:
        """Take in `values`."""
        squares = np.square(values.astype(np.float64))
        for axis in self.total:
            others = tuple(a for a in range(values.ndim) if a != axis % values.ndim)
            self.total[axis] = self.total[axis] + squares.sum(axis=others)


def activation_norms(
    model: Model, weights: Sequence[Weight], context: Context
) -> dict[tuple[int, int], Array]:
    """L2 norms over all calibration samples of what each weight multiplies, by (id(node), input).

    Each broadcasts to its weight's shape. What Gather reads is multiplied by nothing and is left out.
    """
    layers = [(node, index) for node, index in weights if node.op != "Gather"]
    watched: dict[str, SquareSums] = {}
    for node, index in layers:
        tensor, axis = _multiplied(node, index)
        watched.setdefault(tensor.name, SquareSums()).total[axis] = 0.0
    observe(model, watched, context, who="criterion=activation")
    found = {}
    for node, index in layers:
        tensor, axis = _multiplied(node, index)
        norms = np.sqrt(np.asarray(watched[tensor.name].total[axis]))
        found[id(node), index] = _beside(node, index, norms)
    return found


def _multiplied(node: gs.Node, index: int) -> tuple[gs.Tensor, int]:
    """The activation that the weight at `index` multiplies, and its axis that is summed over."""
    other = node.inputs[1 - index]
    if node.op in ("Conv", "ConvTranspose"):
        return other, 1
    flipped = bool(node.attrs.get("transB" if index == 0 else "transA", 0))
    return other, -2 if flipped != (index == 0) else -1


def _beside(node: gs.Node, index: int, norms: Array) -> Array:
    """`norms`, one for each index of the summed axis, in a shape that broadcasts to the weight's."""
    shape = node.inputs[index].shape
    groups = int(node.attrs.get("group", 1))
    planes = (1,) * (len(shape) - 2)
    if node.op == "ConvTranspose":
        return norms.reshape(-1, 1, *planes)
    if node.op == "Conv":
        return norms.reshape(groups, -1).repeat(shape[0] // groups, axis=0).reshape(shape[0], -1, *planes)
    flipped = bool(node.attrs.get("transB" if index else "transA", 0)) != (index == 0)
    return norms[None, :] if flipped else norms[:, None]
