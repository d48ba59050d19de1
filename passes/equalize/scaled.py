"""A node whose channels may be scaled: which constants take the scales in."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import onnx_graphsurgeon as gs
from numpy.typing import NDArray
from onnx_graphsurgeon.ir.tensor import SparseValues

from optc.models.model import Model
from optc.passes.analysis.shapes import rank_of
from optc.passes.prune.structured.axes import Atoms, Axes, Place
from optc.passes.prune.structured.rule import Rule

Array = NDArray[Any]


@dataclass(frozen=True, eq=False)
class Slot:
    """A constant that takes in the scales of channels, once they have any.

    `atoms`: the channel of each of its entries; broadcasts to the constant's shape. `makes`: a node makes
    the channels by it, so it is divided by their scales, else multiplied. `weight`: it is the weight of a
    layer. `value`, `axis`: what holds the channels.
    """

    place: Place
    atoms: Atoms
    makes: bool
    weight: bool
    value: Place
    axis: int

    @property
    def constant(self) -> tuple[int, int]:
        """Node (its id()) and input: where the constant stands."""
        return id(self.place.node), self.place.index


class ScaledRule(Rule):
    """How to speak of the scales of a node's values; whatever is not spoken of keeps its scale.

    Atoms that are linked have the same scale; those that stay have scale 1. The scale of an element is the
    product of its atoms' scales along all axes.
    """

    def __init__(
        self, node: gs.Node, axes: Axes, model: Model, slots: list[Slot], factors: bool = False
    ) -> None:
        super().__init__(node, axes)
        self.factors = factors
        self._fixed_names, self._slots = set(model.overridable), slots
        self._named: set[tuple[bool, int, int]] = set()

    def atoms(self, place: Place, axis: int) -> Atoms | None:
        """The atoms of an axis, which has been spoken of then."""
        self._named.add((place.output, place.index, axis))
        return super().atoms(place, axis)

    def constant(self, index: int) -> Array | None:
        """The values of the input at `index` where it is a float32 constant that nobody can override."""
        tensor = self.node.inputs[index] if self.given(index) else None
        if not isinstance(tensor, gs.Constant) or isinstance(tensor._values, SparseValues):
            return None
        if tensor.dtype != np.float32 or tensor.name in self._fixed_names:
            return None
        return np.asarray(tensor.values)

    def varies(self, index: int) -> bool:
        """Whether the input at `index` is there and no constant."""
        return self.given(index) and not self.is_constant(index)

    def slot(self, index: int, value: Place, axis: int, atoms: Atoms, weight: bool = False) -> None:
        """Let the constant at `index` take in the scales of `value`'s channels, at its `atoms`."""
        self.axes.mark(atoms.reshape(-1))
        self._slots.append(Slot(Place(self.node, index), atoms, value.output, weight, value, axis))

    def finish(self) -> None:
        """Fix what the rule did not speak of, and constants that were linked."""
        for place in (*self.inputs, *self.outputs):
            fixed = isinstance(place.tensor, gs.Constant)
            for axis in range(rank_of(place.tensor) or 0):
                named = (place.output, place.index, axis) in self._named
                if named and fixed:
                    self.axes.freeze(super().atoms(place, axis), f"a constant of {self.node.op} meets them")
                elif not named and not fixed:
                    self.axes.freeze(super().atoms(place, axis), f"{self.node.op} takes no scales along them")
