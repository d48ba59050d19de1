"""How finely the axes of a graph can be cut so that its nodes agree: heads, groups, single channels."""

from __future__ import annotations

from collections.abc import Sequence
from math import gcd

from optc.passes.partition.sharding.factor import Factor

Axis = tuple[str, int]
"""A value and one of its axes."""


class Units:
    """The axes that factors tie together, and into how many pieces all of them can be cut.

    768 features that some node takes for 12 heads have 12 pieces wherever they come from and go to. A
    window's input is not tied to its output: there is a halo between them anyhow.
    """

    def __init__(self) -> None:
        self._parent: dict[Axis, Axis] = {}
        self._units: dict[Axis, int] = {}

    def tie(self, factor: Factor, inputs: Sequence[str], outputs: Sequence[str]) -> None:
        """Take note of a factor of the node that reads and writes these values."""
        axes = _axes(factor, inputs, outputs)
        roots = {self._root(axis) for axis in axes}
        units = factor.units
        for root in roots:
            units = gcd(units, self._units.pop(root, 0))
        first, *others = sorted(roots)
        for root in others:
            self._parent[root] = first
        self._units[first] = units

    def of(self, factor: Factor, inputs: Sequence[str], outputs: Sequence[str], count: int) -> int:
        """Into how many pieces to cut the factor of such a node over `count` devices.

        As many as all that is tied to it can take; where that is too few, as many as it has itself.
        """
        units = self._units[self._root(_axes(factor, inputs, outputs)[0])]
        return units if units >= count else factor.units

    def _root(self, axis: Axis) -> Axis:
        while (above := self._parent.get(axis, axis)) != axis:
            self._parent[axis] = axis = self._parent.get(above, above)
        return axis


def _axes(factor: Factor, inputs: Sequence[str], outputs: Sequence[str]) -> list[Axis]:
    found = [(outputs[place], axis) for place, axis in factor.outputs.items()]
    found += [
        (inputs[place], axis) for place, axis in factor.inputs.items() if factor.window is None or place != 0
    ]
    return found
