"""A node whose channels are followed, and how to speak of its axes."""

from __future__ import annotations

from collections.abc import Iterator

import onnx_graphsurgeon as gs

from optc.passes.analysis.shapes import rank_of
from optc.passes.prune.structured.axes import Atoms, Axes, Place


class Rule:
    """A node, and how to speak of its axes."""

    def __init__(self, node: gs.Node, axes: Axes) -> None:
        self.node, self.axes = node, axes
        self.inputs = [Place(node, i) for i, t in enumerate(node.inputs) if not t.is_empty()]
        self.outputs = [Place(node, i, True) for i, t in enumerate(node.outputs) if not t.is_empty()]

    @property
    def x(self) -> Place:
        """The first input."""
        return Place(self.node, 0)

    @property
    def y(self) -> Place:
        """The first output."""
        return Place(self.node, 0, True)

    def rank(self, place: Place) -> int:
        """The rank of a value, which `follow` has made sure is known."""
        rank = rank_of(place.tensor)
        assert rank is not None
        return rank

    def given(self, index: int) -> bool:
        """Whether the optional input at `index` is there."""
        return index < len(self.node.inputs) and not self.node.inputs[index].is_empty()

    def is_constant(self, index: int) -> bool:
        """Whether the input at `index` is a constant."""
        return self.given(index) and isinstance(self.node.inputs[index], gs.Constant)

    def numbers(self, index: int, attribute: str) -> list[int] | None:
        """Whole numbers of the constant input at `index`, or of an attribute; None where there are none."""
        if self.given(index):
            tensor = self.node.inputs[index]
            return [int(v) for v in tensor.values.reshape(-1)] if isinstance(tensor, gs.Constant) else None
        value = self.node.attrs.get(attribute)
        return None if value is None else [int(v) for v in value]

    def axis(self, default: int, rank: int) -> int:
        """The attribute `axis`, from the front."""
        return int(self.node.attrs.get("axis", default)) % rank

    def atoms(self, place: Place, axis: int) -> Atoms | None:
        """The atoms of an axis."""
        return self.axes.atoms(place, axis)

    def link(self, a: tuple[Place, int], b: tuple[Place, int]) -> None:
        """Link two axes index by index; where the size of one is not known, or they differ, both stay."""
        first, second = self.atoms(*a), self.atoms(*b)
        if first is not None and second is not None and first.size == second.size:
            self.axes.link(first, second)
            return
        for (place, axis), atoms in ((a, first), (b, second)):
            self.axes.freeze(atoms, f"axis {axis} of '{place.tensor.name}' meets one of unknown size")

    def stay(self, place: Place, axes: Iterator[int] | range | list[int], reason: str) -> None:
        """Freeze axes of a value."""
        for axis in axes:
            self.axes.freeze(self.atoms(place, axis), reason)

    def stay_all(self, reason: str) -> None:
        """Freeze every axis of every value that the node reads or writes."""
        for place in (*self.inputs, *self.outputs):
            self.stay(place, range(rank_of(place.tensor) or 0), reason)


Result = str | None
"""None, or why nothing that the node touches can shrink."""
