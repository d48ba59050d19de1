"""Cutting one order of the items into stages whose slowest is as fast as can be: dynamic programming."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np
from numpy.typing import NDArray

from optc.passes.partition.cluster import Link
from optc.passes.partition.order import Order
from optc.passes.partition.problem import INPUT, Problem

PLACES = 1500
"""Cuts are looked for at this many places of an order, evenly over its time, where it is longer."""

Floats = NDArray[np.float64]
Ints = NDArray[np.int64]


class Line:
    """A problem along one order, seen from the places where it may be cut (the ends are two of them).

    Matrices are [from place, to place] of a stage: `received` bytes, and on demand `weights` and `live` bytes
    (as `stage_memory` counts them); they only grow with the stage's end.
    """

    def __init__(self, problem: Problem, order: Order) -> None:
        self.problem, self.order = problem, order
        self._rank = np.empty(len(order), np.int64)
        self._rank[order] = np.arange(len(order))
        self.places = _places(self._sums(0), len(order))
        uses = [(v.producer, v.readers, v.bytes) for v in problem.values if v.producer != INPUT]
        self.received = self._within(uses)
        self._memory: tuple[Floats, Floats] | None = None

    def _sums(self, device: int) -> Floats:
        """Seconds on the device up to each place between the items of the order."""
        return np.concatenate([[0.0], np.cumsum(np.array(self.problem.on(device))[self.order])])

    def _within(self, uses: Sequence[tuple[int, tuple[int, ...], int]]) -> Floats:
        """Bytes that a stage needs from before it; `uses` are (producer or INPUT, readers, bytes)."""
        before: list[int] = []
        reader: list[int] = []
        size: list[int] = []
        for producer, readers, amount in uses:
            ranks = sorted(self._rank[list(readers)].tolist()) if readers else []
            before += [int(self._rank[producer]) if producer != INPUT else -1, *ranks[:-1]][: len(ranks)]
            reader += ranks
            size += [amount] * len(ranks)
        count = len(self.places)
        table = np.zeros((count, count))
        # A stage [i, j) is the first to meet the use (a, c) where a < i <= c < j.
        rows = np.searchsorted(self.places, before, side="right")
        columns = np.searchsorted(self.places, reader, side="right")
        np.add.at(table, (rows, columns), size)
        table = table.cumsum(axis=0).cumsum(axis=1)
        found: Floats = np.maximum(table - np.diagonal(table)[:, None], 0)
        return found

    @property
    def memory(self) -> tuple[Floats, Floats]:
        """`weights` and `live` of every stage."""
        if self._memory is None:
            weights = self._within([(INPUT, w.readers, w.bytes) for w in self.problem.weights])
            self._memory = weights, self._live()
        return self._memory

    def _live(self) -> Floats:
        first: list[int] = []
        start: list[int] = []
        last: list[int] = []
        size: list[int] = []
        for value in self.problem.values:
            uses = sorted(self._rank[list(value.readers)].tolist()) if value.readers else []
            if value.producer != INPUT:
                uses.insert(0, int(self._rank[value.producer]))
            first += [-1, *uses[:-1]][: len(uses)]
            start += uses
            end = len(self.order) if value.kept else uses[-1] if uses else 0
            last += [end] * len(uses)
            size += [value.bytes] * len(uses)
        a, c, e, b = (np.array(x, np.int64) for x in (first, start, last, size))
        live = np.zeros((len(self.places),) * 2)
        for row, i in enumerate(self.places[:-1]):
            mine = (a < i) & (i <= c)
            places = len(self.order) + 2
            change = np.bincount(c[mine], b[mine], places) - np.bincount(e[mine] + 1, b[mine], places)
            most = np.maximum.accumulate(change[i:].cumsum())
            live[row, row + 1 :] = most[self.places[row + 1 :] - i - 1]
        return live

    def cut(self, links: Sequence[Link], limits: Sequence[int] | None) -> list[int] | None:
        """The stage of every item in the best cut into as many stages as there are `links`, None: none fits.

        `links[s]` is what stage s receives over, whoever sends (`links[0]` is not used); `limits` are the
        devices' bytes, None where all fits anyway. A stage waits once for all that it receives.
        """
        ends = self._memory_ends(len(links), limits)
        # Stages on equal devices and links share a matrix.
        kinds = [(self.problem.on(at), link) for at, link in enumerate(links)]
        kind_of = [kinds.index(kind) for kind in kinds]
        costs = {at: self._cost(at, links[at]) for at in set(kind_of)}

        def reach(most: float) -> list[Ints]:
            fits = {at: (cost <= most).sum(axis=1) - 1 for at, cost in costs.items()}
            return [np.minimum(fits[at], end) for at, end in zip(kind_of, ends, strict=True)]

        high = max(float(c[0, -1]) for c in costs.values()) + max(float(c.max()) for c in costs.values())
        places = bisect(reach, 0.0, high)
        if places is None:
            return None
        stage = [0] * len(self.order)
        for s, (i, j) in enumerate(zip(places, places[1:], strict=False)):
            for item in self.order[self.places[i] : self.places[j]]:
                stage[item] = s
        return stage

    def fits(self, limits: Sequence[int]) -> bool:
        """Whether some cut into as many stages as there are `limits` keeps to these bytes."""
        return _cuts(self._memory_ends(len(limits), limits)) is not None

    def _cost(self, device: int, link: Link) -> Floats:
        at = self._sums(device)[self.places]
        wait = np.where(self.received > 0, link.latency_s + self.received / link.bytes_per_second, 0.0)
        cost: Floats = at[None, :] - at[:, None] + wait
        # So that the number of entries up to a limit gives the furthest end.
        cost[np.tril_indices(len(cost))] = -np.inf
        return cost

    def _memory_ends(self, count: int, limits: Sequence[int] | None) -> list[Ints]:
        """For each stage and start the furthest end that the device's memory allows."""
        size = len(self.places)
        if limits is None:
            return [np.full(size, size - 1, np.int64)] * count
        weights, live = self.memory
        upper = np.triu(np.ones((size, size), bool), 1)
        ends = []
        for s, limit in enumerate(limits):
            fits = (weights + (count - s) * live <= limit) & upper
            ends.append(np.arange(size) + fits.sum(axis=1))
        return ends


def bisect(reach: Callable[[float], list[Ints]], low: float, high: float) -> list[int] | None:
    """The cuts of the least bottleneck between `low` and `high` (seconds), to 12 digits; None: none fits.

    `reach(most)` gives for every stage and start the furthest end that a stage of `most` seconds has.
    """
    best = _cuts(reach(high))
    while best is not None and high - low > high * 1e-12 and high > 1e-30:
        middle = (low + high) / 2
        found = _cuts(reach(middle))
        if found is None:
            low = middle
        else:
            high, best = middle, found
    return best


def _cuts(ends: Sequence[Ints]) -> list[int] | None:
    """Places 0 < … < last that cut into one stage an entry of `ends`, each within the furthest end."""
    size = len(ends[0])
    reached = np.zeros(size, bool)
    reached[0] = True
    history = [reached]
    for end in ends:
        starts = np.flatnonzero(reached & (end > np.arange(size)))
        change = np.zeros(size + 1, np.int64)
        np.add.at(change, starts + 1, 1)
        np.add.at(change, end[starts] + 1, -1)
        reached = change.cumsum()[:size] > 0
        history.append(reached)
    if not reached[-1]:
        return None
    places = [size - 1]
    for end, before in zip(reversed(ends), reversed(history[:-1]), strict=True):
        starts = np.flatnonzero(before[: places[0]] & (end[: places[0]] >= places[0]))
        places.insert(0, int(starts[-1]))
    return places


def _places(sums: Floats, count: int) -> Ints:
    """Up to `PLACES` places, both ends among them, half of them evenly over time, half over the items."""
    if count < PLACES:
        return np.arange(count + 1)
    by_count = np.linspace(0, count, PLACES // 2).astype(np.int64)
    by_time = np.searchsorted(sums, np.linspace(0, sums[-1], PLACES // 2))
    return np.unique(np.concatenate([by_count, np.clip(by_time, 0, count)]))
