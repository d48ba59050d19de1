"""The down-sets of a problem: what the first stages of a plan can hold together.

The first s stages of any plan hold a down-set: with an item, all that it needs. So a plan of K stages is a
chain of K down-sets, and where the graph is narrow enough to list them all, nothing is left out.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence

import numpy as np
from numpy.typing import NDArray

from optc.passes.partition.order import Order, edges
from optc.passes.partition.problem import INPUT, Problem

MOST = 20_000
"""Down-sets that are listed; a graph with more is searched along some orders only."""

Bools = NDArray[np.bool_]
Ints = NDArray[np.int64]
Words = NDArray[np.uint64]


class Rows:
    """Lists of numbers one after the other: row i is `items[at[i] : at[i + 1]]`."""

    def __init__(self, rows: Ints, items: Ints, count: int) -> None:
        """From pairs (row, item), rows ascending."""
        self.at: Ints = np.searchsorted(rows, np.arange(count + 1))
        self.items = items


class DownSets:
    """Some down-sets of a problem, the empty one first, the full one last; `whole`: all there are.

    `member[set, item]`, and the same as bits in `words[set, item // 64]`. `pending`: of each set the values
    that are made in it and read outside, `makers`: the items that make them, ascending; `maker_of`: for each
    entry of `pending` the place in the set's `makers`. `readers` and `sizes`: of the values.
    """

    def __init__(self, problem: Problem, masks: Iterable[int], whole: bool) -> None:
        self.whole = whole
        count = len(problem.items)
        listed = sorted(set(masks), key=lambda mask: (mask.bit_count(), mask))
        width = (count + 63) // 64 * 8
        packed = np.frombuffer(b"".join(mask.to_bytes(width, "little") for mask in listed), np.uint8)
        packed = packed.reshape(len(listed), width)
        self.words: Words = packed.view(np.uint64)
        self.member: Bools = np.unpackbits(packed, axis=1, bitorder="little")[:, :count].astype(bool)
        used = [v for v in problem.values if v.producer != INPUT and v.bytes and v.readers]
        self.sizes = np.array([v.bytes for v in used], np.float64)
        self.readers = Rows(
            np.repeat(np.arange(len(used)), [len(v.readers) for v in used]),
            np.array([r for v in used for r in v.readers], np.int64),
            len(used),
        )
        pending = np.zeros((len(listed), len(used)), bool)
        makers = np.zeros((len(listed), count), bool)
        for number, value in enumerate(used):
            column = self.member[:, value.producer] & ~self.member[:, list(value.readers)].all(axis=1)
            pending[:, number] = column
            makers[:, value.producer] |= column
        self.pending = _rows(pending)
        self.makers = _rows(makers)
        producers = np.array([v.producer for v in used], np.int64)[self.pending.items]
        sets = np.repeat(np.arange(len(listed)), np.diff(self.pending.at))
        keys = np.repeat(np.arange(len(listed)), np.diff(self.makers.at)) * count + self.makers.items
        self.maker_of: Ints = np.searchsorted(keys, sets * count + producers) - self.makers.at[sets]


def _rows(table: Bools) -> Rows:
    """Of each row the columns that are set."""
    rows, columns = np.nonzero(table)
    return Rows(rows, columns, len(table))


def down_sets(problem: Problem, along: Sequence[Order]) -> DownSets:
    """All down-sets where they are at most `MOST`, else those that the orders of `along` go through."""
    listed = _all(problem)
    if listed is not None:
        return DownSets(problem, listed, True)
    masks = [0]
    for order in along:
        mask = 0
        for place in order:
            mask |= 1 << place
            masks.append(mask)
    return DownSets(problem, masks, False)


def _all(problem: Problem) -> list[int] | None:
    """Every down-set as a bit mask over the items; None where there are over `MOST`."""
    before, after = edges(problem)
    needs = [sum(1 << s for s in sources) for sources in before]
    layer = {0: sum(1 << i for i, need in enumerate(needs) if not need)}
    found = [0]
    while layer:
        following: dict[int, int] = {}
        for mask, ready in layer.items():
            left = ready
            while left:
                bit = left & -left
                left ^= bit
                grown = mask | bit
                if grown not in following:
                    new = [a for a in after[bit.bit_length() - 1] if not needs[a] & ~grown]
                    following[grown] = ready ^ bit | sum(1 << a for a in new)
            if len(found) + len(following) > MOST:
                return None
        found += following
        layer = following
    return found
