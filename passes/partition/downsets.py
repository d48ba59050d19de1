"""The down-sets of a problem: what the first stages of a plan can hold together.

The first s stages of any plan hold a down-set: with an item, all that it needs. So a plan of K stages is a
chain of K down-sets, and where the graph is narrow enough to list them all, nothing is left out.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from itertools import accumulate
from operator import or_

import numpy as np
from numpy.typing import NDArray

from optc.passes.partition.order import Order, edges
from optc.passes.partition.problem import INPUT, Problem

MOST = 20_000
"""Down-sets that are listed; a graph with more is searched along some orders only."""

Bools = NDArray[np.bool_]
Ints = NDArray[np.int64]


class Rows:
    """Lists of numbers one after the other: row i is `items[at[i] : at[i + 1]]`."""

    def __init__(self, rows: Ints, items: Ints, count: int) -> None:
        """From pairs (row, item), rows ascending."""
        self.at: Ints = np.searchsorted(rows, np.arange(count + 1))
        self.items = items


class DownSets:
    """Some down-sets of a problem, the empty one first, the full one last; `whole`: all there are.

    `member[set, item]`. `steps`: for each set the larger sets that a stage may go on to; every chain of sets
    is one of steps where `whole`. `pending`: of each set the values that are made in it and read outside.
    `readers` and `sizes`: of the values.
    """

    def __init__(self, problem: Problem, steps: Mapping[int, Iterable[int]], whole: bool) -> None:
        """From masks over the items: of each set those of its steps."""
        self.whole = whole
        count = len(problem.items)
        listed = sorted(steps, key=lambda mask: (mask.bit_count(), mask))
        row = {mask: i for i, mask in enumerate(listed)}
        pairs = [(i, row[to]) for i, mask in enumerate(listed) for to in steps[mask]]
        ends = np.array(pairs, np.int64).reshape(-1, 2)
        self.steps = Rows(ends[:, 0], ends[:, 1], len(listed))
        packed = np.frombuffer(
            b"".join(mask.to_bytes((count + 7) // 8, "little") for mask in listed), np.uint8
        )
        packed = packed.reshape(len(listed), -1)
        self.member: Bools = np.unpackbits(packed, axis=1, bitorder="little")[:, :count].astype(bool)
        used = [v for v in problem.values if v.producer != INPUT and v.bytes and v.readers]
        self.sizes = np.array([v.bytes for v in used], np.float64)
        self.readers = Rows(
            np.repeat(np.arange(len(used)), [len(v.readers) for v in used]),
            np.array([r for v in used for r in v.readers], np.int64),
            len(used),
        )
        pending = np.zeros((len(listed), len(used)), bool)
        for number, value in enumerate(used):
            pending[:, number] = self.member[:, value.producer] & ~self.member[:, list(value.readers)].all(
                axis=1
            )
        rows, columns = np.nonzero(pending)
        self.pending = Rows(rows, columns, len(listed))


def down_sets(problem: Problem, along: Sequence[Order]) -> DownSets:
    """All down-sets where they are at most `MOST`, else those that the orders of `along` go through."""
    listed = _all(problem)
    if listed is not None:
        return DownSets(problem, listed, True)
    return DownSets(problem, _along(along), False)


def _all(problem: Problem) -> dict[int, list[int]] | None:
    """Every down-set, a bit mask over the items, and those of one item more; None: there are over `MOST`."""
    before, after = edges(problem)
    needs = [sum(1 << s for s in sources) for sources in before]
    found: dict[int, list[int]] = {}
    layer = {0: sum(1 << i for i, need in enumerate(needs) if not need)}
    while layer:
        following: dict[int, int] = {}
        for mask, ready in layer.items():
            left = ready
            found[mask] = []
            while left:
                bit = left & -left
                left ^= bit
                grown = mask | bit
                found[mask].append(grown)
                if grown not in following:
                    new = [a for a in after[bit.bit_length() - 1] if not needs[a] & ~grown]
                    following[grown] = ready ^ bit | sum(1 << a for a in new)
            if len(found) + len(following) > MOST:
                return None
        layer = following
    return found


def _along(orders: Sequence[Order]) -> dict[int, set[int]]:
    """What each order goes through, and the next that each order goes through from there."""
    ways = [list(accumulate((1 << place for place in order), or_, initial=0)) for order in orders]
    found: dict[int, set[int]] = {}
    for way in ways:
        for mask in way:
            found[mask] = set()
    for way in ways:
        for other in ways:
            place = 0
            for mask in other:
                while place < len(way) and (mask & ~way[place] or mask == way[place]):
                    place += 1
                if place < len(way):
                    found[mask].add(way[place])
    return found
