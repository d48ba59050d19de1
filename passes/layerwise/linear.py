"""A layer as a matrix product: rows of what it reads, times a matrix of its weights, are rows of what it
makes.
"""

from __future__ import annotations

from dataclasses import dataclass
from math import prod
from typing import Any

import numpy as np
import onnx_graphsurgeon as gs
from numpy.typing import NDArray

from optc.passes.analysis.shapes import rank_of
from optc.passes.quantize.integer.layers import read_window
from optc.passes.quantize.integer.windows import slid

Array = NDArray[Any]


@dataclass(frozen=True)
class Linear:
    """A Conv (grouped or not), Gemm or MatMul whose second input is its weight.

    Per group g: rows [g, n, k], matrix [g, k, m], results [g, n, m].
    """

    node: gs.Node

    @property
    def groups(self) -> int:
        """How many independent products it consists of."""
        return int(self.node.attrs.get("group", 1)) if self.node.op == "Conv" else 1

    def matrix(self, weight: Array) -> Array:
        """The weight as [g, k, m]."""
        if self.node.op == "Conv":
            flat = weight.reshape(self.groups, weight.shape[0] // self.groups, prod(weight.shape[1:]))
            return np.asarray(flat.transpose(0, 2, 1))
        return np.asarray((weight.T if self._flipped else weight)[None])

    def weight(self, matrix: Array, shape: tuple[int, ...]) -> Array:
        """The inverse of `matrix`: a weight of `shape`."""
        if self.node.op == "Conv":
            return np.ascontiguousarray(matrix.transpose(0, 2, 1)).reshape(shape)
        return np.ascontiguousarray(matrix[0].T if self._flipped else matrix[0])

    def rows(self, x: Array) -> Array:
        """What each result is a product of: [g, n, k]."""
        if self.node.op != "Conv":
            x = x.T if self.node.attrs.get("transA", 0) else x
            return np.asarray(x.reshape(1, -1, x.shape[-1]))
        window = read_window(self.node, tuple(self.node.inputs[1].shape[2:]))
        views = slid(x, window, 0)
        planes = x.ndim - 2
        split = views.reshape(x.shape[0], self.groups, x.shape[1] // self.groups, *views.shape[2:])
        places = tuple(range(3, 3 + planes))
        kernel = tuple(range(3 + planes, 3 + 2 * planes))
        moved = split.transpose(1, 0, *places, 2, *kernel)
        return np.asarray(moved.reshape(self.groups, prod(moved.shape[1 : 2 + planes]), -1))

    def results(self, y: Array) -> Array:
        """What the layer makes, in the order of `rows`: [g, n, m]."""
        if self.node.op != "Conv":
            return np.asarray(y.reshape(1, -1, y.shape[-1]))
        split = y.reshape(y.shape[0], self.groups, y.shape[1] // self.groups, -1)
        return np.asarray(split.transpose(1, 0, 3, 2).reshape(self.groups, -1, split.shape[2]))

    @property
    def _flipped(self) -> bool:
        return bool(self.node.attrs.get("transB", 0))


def as_linear(node: gs.Node) -> Linear | None:
    """`node` as a product by the weight at its second input, None where it is none of these."""
    if node.domain not in (None, "", "ai.onnx"):
        return None
    if node.op == "Conv":
        return Linear(node)
    if node.op == "Gemm" and node.attrs.get("alpha", 1.0) == 1 and node.attrs.get("beta", 1.0) == 1:
        return Linear(node)
    return Linear(node) if node.op == "MatMul" and rank_of(node.inputs[1]) == 2 else None
