"""The best chain of down-sets: dynamic programming over stages of any convex shape.

The first s stages of any plan hold a down-set: with an item, all that it needs. So a plan of K stages is a
chain of K down-sets, and where the graph is narrow enough to list them all, nothing is left out.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from functools import partial

import numpy as np
from numpy.typing import NDArray

from optc.passes.partition.cluster import Link
from optc.passes.partition.moves import Links
from optc.passes.partition.order import Order, edges
from optc.passes.partition.problem import INPUT, Problem

MOST = 12_000
"""Down-sets that are listed; a graph with more is searched along some orders only."""

PAIRS = 15_000_000
"""Pairs of down-sets, each once a message, that one search looks at; then it gives up."""

Floats = NDArray[np.float64]
Ints = NDArray[np.int64]


class DownSets:
    """Some down-sets of a problem, the empty and the full one among them, in the order of their seconds.

    `whole` says that they are all there are.
    """

    def __init__(self, problem: Problem, masks: Iterable[int], whole: bool) -> None:
        self.whole = whole
        count = len(problem.items)
        times = np.array([item.seconds for item in problem.items])
        listed = sorted(set(masks), key=lambda mask: mask.bit_count())
        packed = np.array(
            [list(mask.to_bytes((count + 63) // 64 * 8, "little")) for mask in listed], np.uint8
        )
        member = np.unpackbits(packed, axis=1, bitorder="little")[:, :count].astype(bool)
        seconds = member @ times
        # Sets of equal seconds stay in the order of their sizes, so that a stage always leads onward.
        by_time = np.argsort(seconds, kind="stable")
        self.member: NDArray[np.bool_] = member[by_time]
        self.seconds: Floats = seconds[by_time]
        self._words = np.ascontiguousarray(packed[by_time]).view(np.uint64)
        self._between = _between(problem)
        self._uses(problem)

    def _uses(self, problem: Problem) -> None:
        """How values cross: a use is a value and some of its readers.

        Down-sets differ for a value only in which readers they hold. From a to b the value is needed where a
        made it and b holds other readers than a; `holds[use, b]` says that b holds just these.
        """
        sizes: list[int] = []
        makers: list[int] = []
        pending: list[NDArray[np.bool_]] = []
        holds: list[NDArray[np.bool_]] = []
        for value in problem.values:
            if value.producer == INPUT or not value.bytes or not value.readers:
                continue
            _, kind = np.unique(self.member[:, list(value.readers)], axis=0, return_inverse=True)
            kind = kind.reshape(-1)
            for pattern in range(int(kind.max()) + 1):
                sizes.append(value.bytes)
                makers.append(value.producer)
                holds.append(kind == pattern)
                pending.append(self.member[:, value.producer] & (kind != pattern))
        shape = (len(sizes), len(self.seconds))
        self._sizes: Floats = np.array(sizes, np.float64)
        self._makers: Ints = np.array(makers, np.int64)
        self._holds: Floats = np.array(holds, np.float64).reshape(shape)
        # By down-set, not by use: a search asks for one set's uses at a time.
        self._pending: NDArray[np.bool_] = np.array(pending, bool).reshape(shape).T.copy()

    def search(self, count: int, most: float, links: Links | None, best: Sequence[Link]) -> Found:
        """The best plan of `count` stages whose stages all take less than `most` seconds.

        With `links`, messages are counted as they are along the best plan found up to each down-set, which
        need not be the one that leads on best. Without, all that stage s receives comes in the fewest
        messages that are certain over `best[s]`, and the result is the best of that: a bound, where `whole`
        and where no link is better.
        """
        windows = self._windows(count, most)
        apart = self._between > most
        level = _Level(windows[0], np.zeros(1), np.full((1, self.member.shape[1]), -1, np.int16))
        budget = PAIRS
        for s in range(count):
            budget -= self._pairs(level.sets, windows[s + 1], most) * (1 if links is None else max(s, 1))
            if budget < 0:
                return Found(False)
            wait_of = partial(_relaxed, apart, best[s]) if links is None else partial(_true, links, s)
            level = self._next(level, windows[s + 1], s, most, wait_of)
            if not len(level.sets):
                return Found(True)
        return Found(True, float(level.slowest[0]), level.stage[0].astype(int).tolist())

    def _windows(self, count: int, most: float) -> list[Ints]:
        """For s = 0 … count the down-sets that s stages can fill and that leave the others enough time."""
        total, slack = self.seconds[-1], 1e-9 * self.seconds[-1]
        last = len(self.seconds) - 1
        found = [np.array([int(np.flatnonzero(~self.member.any(axis=1))[0])])]
        for s in range(1, count):
            least = total - (count - s) * most - slack
            found.append(np.flatnonzero((self.seconds >= least) & (self.seconds <= s * most + slack)))
        full = np.flatnonzero(self.member.all(axis=1))
        assert len(full) == 1 and last >= 1
        return [*found, full]

    def _pairs(self, starts: Ints, ends: Ints, most: float) -> int:
        times, left = self.seconds[ends], self.seconds[starts]
        return int((np.searchsorted(times, left + most, "right") - np.searchsorted(times, left)).sum())

    def _next(self, level: _Level, window: Ints, s: int, most: float, wait_of: _WaitOf) -> _Level:
        """Stage s from every down-set of `level` to those of `window`."""
        slowest = np.full(len(window), most)
        origin = np.full(len(window), -1)
        times, words = self.seconds[window], self._words[window]
        holds = np.ascontiguousarray(self._holds[:, window])
        for row, start in enumerate(level.sets):
            time = self.seconds[start]
            low = int(np.searchsorted(times, time * (1 - 1e-12)))
            high = int(np.searchsorted(times, time + most, side="right"))
            uses = np.flatnonzero(self._pending[start])
            makers = self._makers[uses]
            wait = wait_of(makers, level.stage[row, makers], self._sizes[uses], holds[uses, low:high])
            cost = np.maximum(times[low:high] - time + wait, level.slowest[row])
            mine = self._words[start]
            better = (cost < slowest[low:high]) & (words[low:high] & mine == mine).all(axis=1)
            better &= window[low:high] != start
            slowest[low:high][better] = cost[better]
            origin[low:high][better] = row
        kept = np.flatnonzero(origin >= 0)
        stage = level.stage[origin[kept]].copy()
        stage[self.member[window[kept]] & (stage < 0)] = s
        return _Level(window[kept], slowest[kept], stage)


class Found:
    """What a search came to: whether it was `done`, and the best plan, if there is one below its limit."""

    def __init__(self, done: bool, seconds: float = np.inf, stage: list[int] | None = None) -> None:
        self.done, self.seconds, self.stage = done, seconds, stage


class _Level:
    """Down-sets that s stages fill: which, the seconds of the slowest stage, and each item's stage or -1."""

    def __init__(self, sets: Ints, slowest: Floats, stage: NDArray[np.int16]) -> None:
        self.sets, self.slowest, self.stage = sets, slowest, stage


_WaitOf = Callable[[Ints, NDArray[np.int16], Floats, Floats], Floats]
"""Seconds to receive, by end, of the uses' makers, their stages, the sizes, and what each end holds."""


def _true(
    links: Links, s: int, makers: Ints, stages: NDArray[np.int16], sizes: Floats, held: Floats
) -> Floats:
    """A message from each stage with a maker."""
    wait = np.zeros(held.shape[1])
    for source in np.unique(stages):
        link = links[source][s]
        assert link is not None, "a stage sends to later ones"
        size = np.where(stages == source, sizes, 0.0) @ held
        wait += np.where(size > 0, link.latency_s + size / link.bytes_per_second, 0.0)
    return wait


def _relaxed(
    apart: NDArray[np.bool_],
    link: Link,
    makers: Ints,
    stages: NDArray[np.int16],
    sizes: Floats,
    held: Floats,
) -> Floats:
    """The fewest messages that are certain: one, or two where two makers cannot share a stage."""
    size = sizes @ held
    wait = np.where(size > 0, link.latency_s + size / link.bytes_per_second, 0.0)
    pairs = apart[np.ix_(makers, makers)]
    if pairs.any():
        wait += np.where(((pairs @ held) * held).any(axis=0), link.latency_s, 0.0)
    return wait


def _between(problem: Problem) -> Floats:
    """[a, b]: seconds of all that a stage with items a and b must hold, 0 where b does not follow from a."""
    count = len(problem.items)
    reached = np.eye(count, dtype=bool)
    for place, sources in enumerate(edges(problem)[0]):
        for source in sources:
            reached[:, place] |= reached[:, source]
    times = np.array([item.seconds for item in problem.items])
    found: Floats = (reached * times) @ reached.astype(np.float64)
    return found


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
