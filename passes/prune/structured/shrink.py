"""Taking channels out of a graph: weights, shapes, and what operators say of sizes."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import onnx_graphsurgeon as gs
from numpy.typing import NDArray

from optc.models.model import Model
from optc.passes.analysis.shapes import rank_of
from optc.passes.prune.structured.axes import Axes, Place

Array = NDArray[Any]
Mask = NDArray[np.bool_]


def shrink(model: Model, axes: Axes, removed: Mask) -> dict[str, Mask]:
    """Take the atoms that `removed` (one bool an atom) marks out of every tensor of `model`.

    Returns which channels stay of each layer that makes fewer, by the name of its output.
    """
    shrinking = _Shrink(model, axes, removed)
    kept = {}
    for node in model.view.nodes:
        if node.op in ("Conv", "Gemm", "MatMul"):
            axis = 1 if node.op == "Conv" else (rank_of(node.outputs[0]) or 1) - 1
            mask = shrinking.keep(Place(node, 0, True), axis)
            if mask is not None:
                kept[node.outputs[0].name] = mask
    shrinking.run()
    return kept


class _Shrink:
    def __init__(self, model: Model, axes: Axes, removed: Mask) -> None:
        self._graph = model.graph
        self._axes, self._removed = axes, removed
        self._names = set(self._graph.tensors())
        self._made: dict[tuple[int, bytes], gs.Constant] = {}

    def run(self) -> None:
        nodes = list(self._graph.nodes)
        for node in nodes:  # before any shape changes
            if node.op in _SIZES and self._touched(node):
                _SIZES[node.op](node, self)
        keeps = [(place, self._keeps(place)) for node in nodes for place in _places(node)]
        done: set[int] = set()
        for place, kept in keeps:
            if not kept:
                continue
            tensor = place.tensor
            if isinstance(tensor, gs.Constant):
                place.node.inputs[place.index] = self._taken(tensor, kept)
            elif id(tensor) not in done:
                done.add(id(tensor))
                tensor.shape = [
                    int(kept[axis].sum()) if axis in kept else size for axis, size in enumerate(tensor.shape)
                ]

    def keep(self, place: Place, axis: int) -> Mask | None:
        """Which indices of an axis stay; None where all do."""
        atoms = self._axes.known(place, axis)
        if atoms is None or not self._removed[atoms].any():
            return None
        return np.asarray(~self._removed[atoms])

    def _keeps(self, place: Place) -> dict[int, Mask]:
        masks = ((axis, self.keep(place, axis)) for axis in range(rank_of(place.tensor) or 0))
        return {axis: mask for axis, mask in masks if mask is not None}

    def _touched(self, node: gs.Node) -> bool:
        return any(self._keeps(place) for place in _places(node))

    def _taken(self, tensor: gs.Constant, kept: dict[int, Mask]) -> gs.Constant:
        """The constant with only the kept indices; readers that keep the same ones share it."""
        key = (id(tensor), b"".join(bytes([axis]) + mask.tobytes() for axis, mask in kept.items()))
        if key not in self._made:
            values = tensor.values
            for axis, mask in kept.items():
                values = values.compress(mask, axis)
            self._made[key] = self.constant(tensor.name, np.ascontiguousarray(values))
        return self._made[key]

    def constant(self, wanted: str, values: Array) -> gs.Constant:
        """A new constant; the name is `wanted`, with a number behind it."""
        number = 1
        while f"{wanted}_{number}" in self._names:
            number += 1
        self._names.add(f"{wanted}_{number}")
        return gs.Constant(f"{wanted}_{number}", values)


def _places(node: gs.Node) -> Iterator[Place]:
    yield from (Place(node, i) for i, t in enumerate(node.inputs) if not t.is_empty())
    yield from (Place(node, i, True) for i, t in enumerate(node.outputs) if not t.is_empty())


def _set_sizes(node: gs.Node, index: int, shrink: _Shrink, axes: list[int]) -> None:
    """Put the kept numbers of channels into a constant of sizes, one for each of the output's `axes`."""
    sizes = node.inputs[index].values.astype(np.int64).copy()
    for entry, axis in enumerate(axes):
        mask = shrink.keep(Place(node, 0, True), axis)
        if mask is not None and sizes[entry] > 0:
            sizes[entry] = int(mask.sum())
    node.inputs[index] = shrink.constant(node.inputs[index].name, sizes)


def _reshape(node: gs.Node, shrink: _Shrink) -> None:
    _set_sizes(node, 1, shrink, list(range(node.inputs[1].values.size)))


def _resize(node: gs.Node, shrink: _Shrink) -> None:
    if len(node.inputs) > 3 and isinstance(node.inputs[3], gs.Constant):
        count = node.inputs[3].values.size
        _set_sizes(node, 3, shrink, list(node.attrs.get("axes", range(count))))


def _convolution(node: gs.Node, shrink: _Shrink) -> None:
    """The number of groups: what stays of the input's channels, by the size of a group."""
    groups = node.attrs.get("group", 1)
    mask = shrink.keep(Place(node, 0), 1)
    if groups != 1 and mask is not None:
        node.attrs["group"] = int(mask.sum()) * groups // mask.size


def _split(node: gs.Node, shrink: _Shrink) -> None:
    axis = int(node.attrs.get("axis", 0)) % (rank_of(node.inputs[0]) or 1)
    masks = [shrink.keep(Place(node, i, True), axis) for i in range(len(node.outputs))]
    sizes = [
        int(m.sum()) if m is not None else t.shape[axis] for m, t in zip(masks, node.outputs, strict=True)
    ]
    node.attrs.pop("num_outputs", None)
    node.inputs = [
        node.inputs[0],
        shrink.constant(f"{node.outputs[0].name}_sizes", np.asarray(sizes, np.int64)),
    ]


def _slice(node: gs.Node, shrink: _Shrink) -> None:
    """Starts and ends count the channels that stay before them."""
    starts, ends = (node.inputs[i].values.astype(np.int64).copy() for i in (1, 2))
    rank = rank_of(node.inputs[0]) or 0
    axes = (
        node.inputs[3].values
        if len(node.inputs) > 3 and not node.inputs[3].is_empty()
        else range(starts.size)
    )
    for entry, axis in enumerate(int(a) % rank for a in axes):
        mask = shrink.keep(Place(node, 0), axis)
        if mask is None:
            continue
        before = np.concatenate([[0], np.cumsum(mask)])
        for bounds in (starts, ends):
            at = bounds[entry] + mask.size if bounds[entry] < 0 else bounds[entry]
            bounds[entry] = before[np.clip(at, 0, mask.size)]
    for index, bounds in ((1, starts), (2, ends)):
        node.inputs[index] = shrink.constant(node.inputs[index].name, bounds)


def _gather(node: gs.Node, shrink: _Shrink) -> None:
    """Indices count the channels that stay; those of channels that go, go."""
    axis = int(node.attrs.get("axis", 0)) % (rank_of(node.inputs[0]) or 1)
    mask = shrink.keep(Place(node, 0), axis)
    if mask is None:
        return
    chosen = node.inputs[1].values.astype(np.int64) % mask.size
    chosen = (np.cumsum(mask) - 1)[chosen[mask[chosen]]]
    node.inputs[1] = shrink.constant(node.inputs[1].name, chosen.astype(np.int64))


_SIZES: dict[str, Callable[[gs.Node, _Shrink], None]] = {
    "Reshape": _reshape,
    "Resize": _resize,
    "Conv": _convolution,
    "ConvTranspose": _convolution,
    "Split": _split,
    "Slice": _slice,
    "Gather": _gather,
}
"""Operators that say sizes or indices of channels in attributes or constants."""
