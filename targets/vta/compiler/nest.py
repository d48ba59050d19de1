"""Micro-ops and loops for the steps of a GEMM or of a windowed ALU operation."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

Index = NDArray[np.int64]

APART = 3
"""Steps from one accumulation into an element to the next, at least: what the HLS design's pipeline asks."""


@dataclass(frozen=True, eq=False)
class Loop:
    """A loop: its count, and what it adds to dst and src."""

    count: int
    dst: int
    src: int


@dataclass(frozen=True, eq=False)
class Nest:
    """One instruction: micro-ops (n, 3) relative to the buffers, and the loops around them."""

    uops: Index
    outer: Loop
    inner: Loop

    @property
    def steps(self) -> int:
        """Steps of the instruction."""
        return len(self.uops) * self.outer.count * self.inner.count


def nests(items: Index, blocks: Index, rows: Loop, columns: Loop) -> list[Nest]:
    """Instructions that do every item (dst, src, wgt) at every row and column.

    `blocks`: the output block of each item: only items of one block can meet in an element, and those are
    kept `APART`.
    """
    names, numbers = np.unique(blocks, return_inverse=True)
    if len(items) == 1:
        return [Nest(items, rows, columns)]
    if len(names) >= APART:
        return _round_robin(items, numbers, rows, columns)
    if rows.count * columns.count < APART:
        return [Nest(items[g], rows, columns) for g in _rounds(numbers)]
    if rows.count >= APART:
        nest = Nest(_unrolled(items, rows), _ONCE, columns)
    elif columns.count >= APART:
        nest = Nest(_unrolled(items, columns), _ONCE, rows)
    else:
        nest = Nest(_unrolled(_unrolled(items, rows), columns), _ONCE, _ONCE)
    first = items[np.unique(numbers, return_index=True)[1], 0]
    offsets = items[:, 0] - first[numbers]
    if not offsets.any() or _apart(nest):
        return [nest]
    same = (offsets == o for o in np.unique(offsets))
    return [n for which in same for n in nests(items[which], blocks[which], rows, columns)]


def _apart(nest: Nest) -> bool:
    """Whether accumulations into one element are `APART`; of a nest whose outer loop runs once."""
    dst = (np.arange(nest.inner.count)[:, None] * nest.inner.dst + nest.uops[:, 0]).reshape(-1)
    return not any((dst[d:] == dst[:-d]).any() for d in range(1, APART))


_ONCE = Loop(1, 0, 0)


def _unrolled(items: Index, loop: Loop) -> Index:
    """Micro-ops in place of a loop: for each item all its positions."""
    step = np.array([loop.dst, loop.src, 0])
    return np.asarray((items[:, None, :] + np.arange(loop.count)[None, :, None] * step).reshape(-1, 3))


def _rounds(numbers: Index) -> list[Index]:
    """Groups of items, the n-th of each block in the n-th group."""
    order = np.argsort(numbers, kind="stable")
    sorted_numbers = numbers[order]
    starts = np.searchsorted(sorted_numbers, sorted_numbers)
    ranks = np.empty(len(numbers), np.int64)
    ranks[order] = np.arange(len(numbers)) - starts
    by_rank = np.lexsort((numbers, ranks))
    cuts = np.flatnonzero(np.diff(ranks[by_rank])) + 1
    return list(np.split(by_rank, cuts))


def _round_robin(items: Index, numbers: Index, rows: Loop, columns: Loop) -> list[Nest]:
    """Rounds with one item of each block: in one instruction those of enough blocks, then the others.

    Each round has some of the blocks of the round before, in the same order: a block comes again after as
    many items as the later round has, at least.
    """
    rounds = _rounds(numbers)
    whole = [r for r in rounds if len(r) >= APART]
    found = [Nest(items[np.concatenate(whole)], rows, columns)] if whole else []
    if len(whole) == len(rounds):
        return found
    rest = np.concatenate(rounds[len(whole) :])
    return [*found, *nests(items[rest], numbers[rest], rows, columns)]
