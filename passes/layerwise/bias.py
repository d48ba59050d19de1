"""The bias of a layer, wherever the graph keeps it."""

from __future__ import annotations

from typing import Any

import numpy as np
import onnx_graphsurgeon as gs
from numpy.typing import NDArray
from onnx_graphsurgeon.ir.tensor import SparseValues

from optc.passes.float_ends import free_name

Array = NDArray[Any]


class Bias:
    """The bias of a Conv, Gemm or MatMul, one value a channel of its output.

    `inside`: the layer itself adds it; else an Add behind a MatMul does. A layer without one gets it by
    `set`.
    """

    def __init__(self, node: gs.Node) -> None:
        self._node = node
        self._reader, self._index = (node, 2) if node.op != "MatMul" else _adder(node)
        self.inside = node.op != "MatMul"

    @property
    def constant(self) -> gs.Constant | None:
        """The bias where there is one, a dense constant that is the same for each row."""
        if self._reader is None or not _given(self._reader, self._index):
            return None
        found = self._reader.inputs[self._index]
        if not isinstance(found, gs.Constant) or isinstance(found._values, SparseValues):
            return None
        vector = found.values.size in (1, _channels(self._node))
        return found if vector and found.values.size == max((1, *found.shape[-1:])) else None

    @property
    def known(self) -> bool:
        """Whether the layer adds nothing but a `constant`, or nothing."""
        given = self._reader is not None and _given(self._reader, self._index)
        return not given or self.constant is not None

    @property
    def values(self) -> Array:
        """The bias, [channels], where it is `known`; zeros where there is none."""
        count = _channels(self._node)
        dtype = self._node.inputs[1].dtype
        if self._reader is None or not _given(self._reader, self._index):
            return np.zeros(count, dtype)
        return np.array(np.broadcast_to(self._reader.inputs[self._index].values.reshape(-1), (count,)))

    def set(self, values: Array, names: set[str]) -> None:
        """Write the bias, [channels], where there is a place; a constant that others read too is copied.

        `names`: those that are taken; that of a new constant is added.
        """
        if self._reader is None:
            return
        if _given(self._reader, self._index):
            old = self._reader.inputs[self._index]
            name = old.name
            if len(old.outputs) > 1:
                name = free_name(f"{name}_{self._node.outputs[0].name}", names)
            self._reader.inputs[self._index] = gs.Constant(name, values.astype(old.dtype))
        else:
            while len(self._reader.inputs) <= self._index:
                self._reader.inputs.append(gs.Variable.empty())
            name = free_name(f"{self._node.outputs[0].name}_bias", names)
            self._reader.inputs[self._index] = gs.Constant(name, values.astype(self._node.inputs[1].dtype))


def _given(node: gs.Node, index: int) -> bool:
    return index < len(node.inputs) and not node.inputs[index].is_empty()


def _channels(node: gs.Node) -> int:
    shape = node.inputs[1].shape
    if node.op == "Conv" or (node.op == "Gemm" and node.attrs.get("transB", 0)):
        return int(shape[0])
    return int(shape[-1])


def _adder(node: gs.Node) -> tuple[gs.Node | None, int]:
    """The Add of a constant vector that alone reads a MatMul's result."""
    readers = list(node.outputs[0].outputs)
    if len(readers) != 1 or readers[0].op != "Add":
        return None, 0
    index = 1 if readers[0].inputs[0] is node.outputs[0] else 0
    constant = readers[0].inputs[index]
    fits = isinstance(constant, gs.Constant) and tuple(constant.shape) == (_channels(node),)
    return (readers[0], index) if fits else (None, 0)
