"""Topological orders of a problem's items: where an order is cut, the parts are stages."""

from __future__ import annotations

from collections.abc import Callable
from heapq import heappop, heappush

from optc.passes.partition.problem import INPUT, Problem

Order = list[int]


def edges(problem: Problem) -> tuple[list[list[int]], list[list[int]]]:
    """Each item's direct predecessors and successors, ascending."""
    before: list[set[int]] = [set() for _ in problem.items]
    after: list[set[int]] = [set() for _ in problem.items]
    for value in problem.values:
        if value.producer != INPUT:
            after[value.producer].update(value.readers)
            for reader in value.readers:
                before[reader].add(value.producer)
    return [sorted(s) for s in before], [sorted(s) for s in after]


def orders(problem: Problem) -> list[Order]:
    """The problem's own order, depth first, breadth first, and with few bytes alive; each once."""
    before, after = edges(problem)
    level = [0] * len(problem.items)
    for place, sources in enumerate(before):
        level[place] = 1 + max((level[s] for s in sources), default=0)
    found = [
        list(range(len(problem.items))),
        _sorted(before, after, lambda place, step: (-step, place)),
        _sorted(before, after, lambda place, step: (level[place], place)),
        _few_bytes(problem, before, after),
    ]
    return [order for i, order in enumerate(found) if order not in found[:i]]


def _sorted(
    before: list[list[int]], after: list[list[int]], key: Callable[[int, int], tuple[int, int]]
) -> Order:
    """Always next: the ready item of least `key`, which is made of the item and of when it became ready."""
    waiting = [len(sources) for sources in before]
    ready: list[tuple[tuple[int, int], int]] = []
    for place, count in enumerate(waiting):
        if not count:
            heappush(ready, (key(place, 0), place))
    order: Order = []
    while ready:
        place = heappop(ready)[1]
        order.append(place)
        for follower in after[place]:
            waiting[follower] -= 1
            if not waiting[follower]:
                heappush(ready, (key(follower, len(order)), follower))
    return order


def _few_bytes(problem: Problem, before: list[list[int]], after: list[list[int]]) -> Order:
    """Always next: the ready item that adds the fewest live bytes; of equals, the last that became ready."""
    waiting = [len(sources) for sources in before]
    live = _Live(problem)
    ready = sorted((live.adds[place], 0, place) for place, count in enumerate(waiting) if not count)
    order: Order = []
    while ready:
        cost, _, place = heappop(ready)
        if live.done[place] or cost != live.adds[place]:
            continue
        order.append(place)
        changed = [last for last in live.run(place) if not waiting[last]]
        for follower in after[place]:
            waiting[follower] -= 1
            if not waiting[follower]:
                changed.append(follower)
        for other in changed:
            heappush(ready, (live.adds[other], -len(order), other))
    return order


class _Live:
    """What each item would add to the live bytes if it ran next: its results, less what it reads last."""

    def __init__(self, problem: Problem) -> None:
        self._values = problem.values
        self._left = [len(value.readers) for value in problem.values]
        self._reads: list[list[int]] = [[] for _ in problem.items]
        self.done = [False] * len(problem.items)
        self.adds = [0] * len(problem.items)
        for number, value in enumerate(problem.values):
            if value.producer != INPUT and (value.readers or value.kept):
                self.adds[value.producer] += value.bytes
            for reader in value.readers:
                self._reads[reader].append(number)
            if len(value.readers) == 1 and not value.kept:
                self.adds[value.readers[0]] -= value.bytes

    def run(self, place: int) -> list[int]:
        """The items that add less from now on, as they alone are left to read a value."""
        self.done[place] = True
        changed = []
        for number in self._reads[place]:
            value = self._values[number]
            self._left[number] -= 1
            if self._left[number] == 1 and not value.kept:
                last = next(r for r in value.readers if not self.done[r])
                self.adds[last] -= value.bytes
                changed.append(last)
        return changed
