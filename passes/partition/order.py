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
    """Always next: the ready item that adds the fewest live bytes, the latest that became ready among equals."""
    waiting = [len(sources) for sources in before]
    adds = [0] * len(problem.items)
    reads: list[list[int]] = [[] for _ in problem.items]
    left = [len(value.readers) for value in problem.values]
    for number, value in enumerate(problem.values):
        if value.producer != INPUT and (value.readers or value.kept):
            adds[value.producer] += value.bytes
        for reader in value.readers:
            reads[reader].append(number)
            if len(value.readers) == 1 and not value.kept:
                adds[reader] -= value.bytes
    done = [False] * len(problem.items)
    ready = sorted((adds[place], 0, place) for place, count in enumerate(waiting) if not count)
    order: Order = []
    while ready:
        cost, _, place = heappop(ready)
        if done[place] or cost != adds[place]:
            continue
        done[place] = True
        order.append(place)
        for number in reads[place]:
            left[number] -= 1
            value = problem.values[number]
            if left[number] == 1 and not value.kept:
                # Whoever reads it last frees it.
                last = next(r for r in value.readers if not done[r])
                adds[last] -= value.bytes
                if not waiting[last]:
                    heappush(ready, (adds[last], -len(order), last))
        for follower in after[place]:
            waiting[follower] -= 1
            if not waiting[follower]:
                heappush(ready, (adds[follower], -len(order), follower))
    return order
