"""Values that share one code: what MaxPool, Concat and moves of data read and write."""

from __future__ import annotations

from collections.abc import Mapping
from typing import NamedTuple

import onnx_graphsurgeon as gs

from optc.passes.quantize.region import Region

Range = tuple[float, float]


class Seen(NamedTuple):
    """What calibration saw of a value: the range for its code, and the extremes, for one of 16 bits."""

    range: Range
    extremes: Range


def sources(region: Region) -> list[gs.Tensor]:
    """The coded values whose ranges decide all others: those that no move of data or Concat makes."""
    made = {id(u.output) for u in region.units if u.shares and not u.constants}
    return [t for t in region.coded if id(t) not in made]


def code_ranges(region: Region, seen: Mapping[int, Range], unsigned: bool) -> dict[int, Range]:
    """The range that the code of each coded value spans, by the value's id(); equal where they share a code.

    `seen`: the ranges of the sources. A move of data shares its operand's code, a Concat the code of all its
    operands, over the union of their ranges. Add, Max and Min by constants share their operand's code, over
    the union of their own range and its. Only where codes are `unsigned` and some operands of a Concat
    can be negative, others not, each keeps its own code and the output gets one over all: the zero point of
    a Relu's result must stay 0, or ONNX Runtime no longer fuses the layer before it.
    """
    groups = _Groups(seen)
    for unit in region.units:
        if unit.shares:
            operands, output = [id(t) for t in unit.operands], id(unit.output)
            ranges = [groups.range(t) for t in operands]
            signs = {low < 0 for low, _ in ranges}
            own = [seen[output]] if output in seen else []
            groups.add(output, (min(r[0] for r in ranges + own), max(r[1] for r in ranges + own)))
            if len(signs) == 1 or not unsigned:
                for operand in operands:
                    groups.join(operand, output)
    return {id(t): groups.range(id(t)) for t in region.coded}


def with_equals(region: Region, chosen: set[int]) -> set[int]:
    """The ids of `chosen` values, and of all that share a code with one of them."""
    found = set(chosen)
    while True:
        before = len(found)
        for unit in region.units:
            members = {id(t) for t in (*unit.operands, unit.output)}
            if unit.shares and members & found:
                found |= members
        if len(found) == before:
            return found


class _Groups:
    """A union-find over values; each group has a range."""

    def __init__(self, ranges: Mapping[int, Range]) -> None:
        self._parent = {key: key for key in ranges}
        self._ranges = dict(ranges)

    def add(self, key: int, range: Range) -> None:
        self._parent[key] = key
        self._ranges[key] = range

    def root(self, key: int) -> int:
        while self._parent[key] != key:
            self._parent[key] = self._parent[self._parent[key]]
            key = self._parent[key]
        return key

    def range(self, key: int) -> Range:
        return self._ranges[self.root(key)]

    def join(self, a: int, b: int) -> None:
        a, b = self.root(a), self.root(b)
        (low_a, high_a), (low_b, high_b) = self._ranges[a], self._ranges[b]
        self._parent[a] = b
        self._ranges[b] = (min(low_a, low_b), max(high_a, high_b))
