"""Factors: the indices that a node runs over, as in an einsum, and the layouts that follow from them."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from math import gcd

from optc.passes.partition.sharding.layout import Layout, Range, Spec, Split
from optc.passes.partition.sharding.op import Op
from optc.passes.partition.sharding.window import Window


@dataclass(frozen=True)
class Factor:
    """An index of a node: the axes of inputs and outputs that it runs along, by position.

    The node does the same with each of its `units` equal pieces. `reduce`: it is summed over, outputs do not
    have it. `window`: the axis of input 0 is read through a sliding window, and `units` are the output's.
    """

    inputs: Mapping[int, int]
    outputs: Mapping[int, int]
    units: int
    reduce: bool = False
    window: Window | None = None

    def layout(self, op: Op, cuts: Sequence[int]) -> Layout | None:
        """The node with this index cut at `cuts`, which go from 0 to `units`; None where a piece is empty."""
        ins: list[Spec] = [None] * len(op.ins)
        outs: list[Spec] = [None] * len(op.outs)
        for place, axis in self.inputs.items():
            if self.window is not None and place == 0:
                ranges = tuple(self.window.reads(r) for r in _ranges(cuts))
                if any(start >= stop for start, stop in ranges):
                    return None
                ins[0] = Split(axis, ranges)
            else:
                ins[place] = self._split(axis, op.dim(place, axis), cuts)
        for place, axis in self.outputs.items():
            shape = op.outs[place]
            assert shape is not None
            outs[place] = self._split(axis, shape[axis], cuts)
        return Layout(tuple(ins), tuple(outs), self.reduce)

    def _split(self, axis: int, size: object, cuts: Sequence[int]) -> Split:
        assert isinstance(size, int)
        return Split(axis, _ranges([cut * size // self.units for cut in cuts]))


def _ranges(cuts: Sequence[int]) -> tuple[Range, ...]:
    return tuple(zip(cuts[:-1], cuts[1:], strict=True))


def factor(
    op: Op, inputs: Mapping[int, int], outputs: Mapping[int, int], reduce: bool = False, units: int = 0
) -> Iterator[Factor]:
    """The factor along these axes, nothing where one of their sizes is not a number.

    `units`: how many pieces there are at most (the greatest common divisor of all sizes).
    """
    if reduce and op.outs[0] is None:
        return  # what a sum of unknown size costs is not known
    shapes = [(op.ins[place], axis) for place, axis in inputs.items()]
    shapes += [(op.outs[place], axis) for place, axis in outputs.items()]
    for shape, axis in shapes:
        size = shape[axis] if shape is not None and axis < len(shape) else None
        if not isinstance(size, int) or size < 2:
            return
        units = gcd(units, size)
    if units > 1:
        yield Factor(inputs, outputs, units, reduce)


def even(units: int, count: int) -> list[int]:
    """`count` pieces of `units`, as equal as can be."""
    return [t * units // count for t in range(count + 1)]
