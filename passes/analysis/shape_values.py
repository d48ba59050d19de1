"""What is known of the integers that a graph computes from shapes: each a number, a symbol, or unknown."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from typing import Any

import numpy as np
import onnx_graphsurgeon as gs
from numpy.typing import NDArray

from optc.passes.analysis.shapes import Dim, shape_of

Elements = tuple[Dim, ...]

MOST = 64
"""Elements: longer vectors are no shapes."""


class ShapeValues:
    """Knows the elements of small integer tensors (rank 0 or 1), where they follow from shapes."""

    def __init__(self, constant: Callable[[gs.Tensor], NDArray[Any] | None]) -> None:
        """`constant` gives the values of a constant tensor."""
        self._constant = constant
        self._known: dict[int, tuple[Elements, int]] = {}

    def learn(self, nodes: Iterable[gs.Node]) -> None:
        """Read `nodes`, which are in topological order."""
        for node in nodes:
            rule = _RULES.get(node.op)
            if rule is None or not node.outputs or node.domain not in (None, "", "ai.onnx"):
                continue
            found = rule(self, node)
            if found is not None and len(found[0]) <= MOST:
                self._known[id(node.outputs[0])] = found

    def elements(self, tensor: gs.Tensor) -> Elements | None:
        """The elements of a tensor, None where nothing is known of it."""
        found = self.value(tensor)
        return None if found is None else found[0]

    def value(self, tensor: gs.Tensor) -> tuple[Elements, int] | None:
        """Elements and rank (0 or 1) of a tensor."""
        if id(tensor) in self._known:
            return self._known[id(tensor)]
        if not isinstance(tensor, gs.Constant) or len(tensor.shape) > 1 or not _is_integer(tensor):
            return None
        if tensor.shape and tensor.shape[0] > MOST:
            return None
        values = self._constant(tensor)
        return None if values is None else (tuple(values.ravel().tolist()), values.ndim)


Found = tuple[Elements, int] | None
_Rule = Callable[[ShapeValues, gs.Node], Found]


def _is_integer(tensor: gs.Tensor) -> bool:
    return not isinstance(tensor.dtype, int) and np.dtype(tensor.dtype).kind in "iu"


def _shape(known: ShapeValues, node: gs.Node) -> Found:
    shape = shape_of(node.inputs[0])
    if shape is None:
        return None
    start, end = node.attrs.get("start", 0), node.attrs.get("end", len(shape))
    return shape[start:end], 1


def _size(known: ShapeValues, node: gs.Node) -> Found:
    shape = shape_of(node.inputs[0])
    if shape is None:
        return None
    return (_product(shape),), 0


def _product(dims: Sequence[Dim]) -> Dim:
    result: Dim = 1
    for dim in dims:
        result = _times(result, dim)
    return result


def _times(a: Dim, b: Dim) -> Dim:
    if isinstance(a, int) and isinstance(b, int):
        return a * b
    if a == 1:
        return b
    return a if b == 1 else None


def _plus(a: Dim, b: Dim) -> Dim:
    if isinstance(a, int) and isinstance(b, int):
        return a + b
    if a == 0:
        return b
    return a if b == 0 else None


def _minus(a: Dim, b: Dim) -> Dim:
    if isinstance(a, int) and isinstance(b, int):
        return a - b
    if a is not None and a == b:
        return 0
    return a if b == 0 else None


def _over(a: Dim, b: Dim) -> Dim:
    if isinstance(a, int) and isinstance(b, int) and b != 0:
        return int(abs(a) // abs(b)) * (1 if (a < 0) == (b < 0) else -1)
    return a if b == 1 else None


def _elementwise(operation: Callable[[Dim, Dim], Dim]) -> _Rule:
    def rule(known: ShapeValues, node: gs.Node) -> Found:
        left, right = known.value(node.inputs[0]), known.value(node.inputs[1])
        if left is None or right is None:
            return None
        (a, rank_a), (b, rank_b) = left, right
        count = len(b) if len(a) == 1 else len(a)
        if len(a) not in (1, count) or len(b) not in (1, count):
            return None
        a, b = (a * count if len(a) == 1 else a), (b * count if len(b) == 1 else b)
        return tuple(operation(x, y) for x, y in zip(a, b, strict=True)), max(rank_a, rank_b)

    return rule


def _gather(known: ShapeValues, node: gs.Node) -> Found:
    data, indices = known.value(node.inputs[0]), known.value(node.inputs[1])
    if data is None or indices is None or data[1] != 1:
        return None
    picked: list[Dim] = []
    for index in indices[0]:
        if not isinstance(index, int) or not -len(data[0]) <= index < len(data[0]):
            return None
        picked.append(data[0][index])
    return tuple(picked), indices[1]


def _slice(known: ShapeValues, node: gs.Node) -> Found:
    data = known.value(node.inputs[0])
    bounds = [known.elements(t) if t.name else (default,) for t, default in _slice_inputs(node)]
    if data is None or data[1] != 1 or len(bounds) != 4:
        return None
    numbers = [b[0] for b in bounds if b is not None and len(b) == 1 and isinstance(b[0], int)]
    if len(numbers) != 4 or numbers[2] not in (0, -1):
        return None
    start, end, _, step = numbers
    return None if step == 0 else (data[0][start:end:step], 1)


def _slice_inputs(node: gs.Node) -> list[tuple[gs.Tensor, int]]:
    missing = gs.Variable.empty()
    inputs = [*node.inputs[1:], missing, missing]
    return list(zip(inputs[:4], (0, 0, 0, 1), strict=True)) if len(node.inputs) >= 3 else []


def _concat(known: ShapeValues, node: gs.Node) -> Found:
    parts = [known.value(t) for t in node.inputs]
    joined: list[Dim] = []
    for tensor, part in zip(node.inputs, parts, strict=True):
        shape = shape_of(tensor)
        if part is not None and part[1] == 1:
            joined.extend(part[0])
        elif shape is not None and len(shape) == 1 and isinstance(shape[0], int):
            joined.extend([None] * shape[0])
        else:
            return None
    return tuple(joined), 1


def _squeeze(known: ShapeValues, node: gs.Node) -> Found:
    data = known.value(node.inputs[0])
    return (data[0], 0) if data is not None and data[1] == 1 and len(data[0]) == 1 else None


def _unsqueeze(known: ShapeValues, node: gs.Node) -> Found:
    data = known.value(node.inputs[0])
    return (data[0], 1) if data is not None and data[1] == 0 else None


def _cast(known: ShapeValues, node: gs.Node) -> Found:
    to = node.attrs.get("to")
    if to not in (6, 7):  # int32, int64
        return None
    return known.value(node.inputs[0])


def _same(known: ShapeValues, node: gs.Node) -> Found:
    return known.value(node.inputs[0])


_RULES: dict[str, _Rule] = {
    "Shape": _shape,
    "Size": _size,
    "Add": _elementwise(_plus),
    "Sub": _elementwise(_minus),
    "Mul": _elementwise(_times),
    "Div": _elementwise(_over),
    "Gather": _gather,
    "Slice": _slice,
    "Concat": _concat,
    "Squeeze": _squeeze,
    "Unsqueeze": _unsqueeze,
    "Cast": _cast,
    "Identity": _same,
}
