"""Pipeline stages: a partition whose slowest stage is as fast as can be, and a proof of how good it is."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from optc.models.errors import InputError
from optc.passes.partition.chains import Chains, speeds
from optc.passes.partition.cluster import Cluster, Link
from optc.passes.partition.downsets import down_sets
from optc.passes.partition.even import even_cuts
from optc.passes.partition.line import PLACES, Ints, Line, bisect
from optc.passes.partition.memory import StageMemory
from optc.passes.partition.moves import Links, Room, fits, improve
from optc.passes.partition.order import Order, edges, orders
from optc.passes.partition.plan import Plan, make_plan
from optc.passes.partition.problem import INPUT, Problem

_FREE = Link(0.0, float("inf"))

_SEARCHED = 3000
"""Items: larger problems are not searched over down-sets."""

_WORK = 600_000_000
"""What all searches over down-sets of one problem may cost together, as `Found.work` counts it: some 20 s."""

_FEW, _MANY = 16, 1000
"""States of one down-set that searches for plans and for bounds keep."""

_CLOSE = 1e-3
"""How near to each other what is proved and what is found, limits are halved between them no more."""

_FOREVER = 1e30
"""Seconds, as the limit of a search where no plan is known."""


def stages(problem: Problem, cluster: Cluster, count: int, seed: int = 0) -> Plan:
    """`problem` in `count` stages on the first `count` devices of `cluster`, in their order.

    Exact for chains (of up to `PLACES` items where memory is short) and, where memory does not matter, for
    graphs of few down-sets as far as `_WORK` goes; else the best of several heuristics, and the plan's gap
    says how far from its bound. Equal arguments give equal plans.

    `InputError`: more stages than items or devices, devices of different speed where the problem has no times
    for each, a link that is missing, or too little memory (how much more would do, and the fewest stages
    found that fit).
    """
    _check(problem, cluster, count)
    limits = [device.memory_bytes for device in cluster.devices[:count]]
    if len(problem.items) > _SEARCHED and _whole(problem, count) > min(limits):
        # Two searches would take twice the time.
        return _solve(problem, cluster, count, limits, seed)
    plan = _solve(problem, cluster, count, None, seed)
    if all(need <= limit for need, limit in zip(plan.memory, limits, strict=True)):
        return plan
    return _solve(problem, cluster, count, limits, seed)


def _whole(problem: Problem, count: int) -> int:
    """Bytes that no stage of `count` needs more than."""
    return sum(w.bytes for w in problem.weights) + count * sum(v.bytes for v in problem.values)


def _solve(problem: Problem, cluster: Cluster, count: int, limits: list[int] | None, seed: int) -> Plan:
    """As `stages`; `limits` are the devices' bytes, None: memory does not count."""
    links = _links(cluster, count)
    chain = all(after == [i + 1] for i, after in enumerate(edges(problem)[1][:-1]))
    ways = orders(problem)
    lines = [] if chain and limits is None else [Line(problem, order) for order in ways]
    if chain and (limits is None or len(problem.items) < PLACES):
        over = _neighbours(links)
        cut = _cut_chain(problem, over) if limits is None else lines[0].cut(over, limits)
        if cut is None:
            raise InputError(_shortage(lines, cluster, count))
        return make_plan(problem, cluster, cut, make_plan(problem, cluster, cut).bottleneck)

    room = None if limits is None else _room(problem, count, limits)
    best = _Best(problem, cluster, count, room)
    for stage in even_cuts(problem, count):
        best.offer(stage)
    for line in lines:
        best.offer(line.cut(_neighbours(links), limits))
    bound = max(count_bound(problem, count), item_bound(problem, _best_links(links)))
    if len(problem.items) <= _SEARCHED and bound < best.seconds:
        bound = _search(problem, links, ways, best, bound)
    if best.stage is None:
        raise InputError(_shortage(lines, cluster, count))
    if best.seconds > bound * (1 + 1e-9):
        best.offer(improve(problem, links, best.stage, room, seed))
    return make_plan(problem, cluster, best.stage, min(bound, best.seconds))


def _room(problem: Problem, count: int, limits: list[int]) -> Room:
    """The memory of `count` stages whose devices have the bytes `limits`."""
    holds = StageMemory(problem)

    def room(stage: Ints, at: int) -> tuple[int, int]:
        weights, live = holds.of(stage, at)
        return weights, limits[at] - (count - at) * live

    return room


class _Best:
    """The best of the partitions offered that fit."""

    def __init__(self, problem: Problem, cluster: Cluster, count: int, room: Room | None) -> None:
        self.problem, self.cluster, self.count, self.room = problem, cluster, count, room
        self.stage: list[int] | None = None
        self.seconds = float("inf")

    def offer(self, stage: list[int] | None) -> float:
        """Keep `stage` where it fits and is faster than what there is; its seconds, fitting or not."""
        if stage is None:
            return float("inf")
        seconds = make_plan(self.problem, self.cluster, stage).bottleneck
        placed = np.array(stage)
        if seconds < self.seconds and all(fits(placed, at, self.room) for at in range(self.count)):
            self.stage, self.seconds = stage, seconds
        return seconds


def _search(problem: Problem, links: Links, ways: Sequence[Order], best: _Best, bound: float) -> float:
    """Offers what searches over down-sets find; returns a bound, `bound` or better."""
    sets = down_sets(problem, ways)
    chains = Chains(sets, np.array([problem.on(at) for at in range(len(links))]), links)
    if not sets.whole:
        _find(chains, best, bound, _WORK // 10)
        return bound
    low, work = _prove(chains, best, bound, _WORK * 2 // 3, False)
    low, work = _prove(chains, best, low, work + _WORK // 6, True)
    _find(chains, best, low, work + _WORK // 6)
    # Sums in another order differ in their last digits.
    return max(bound, low * (1 - 1e-12))


def _prove(chains: Chains, best: _Best, low: float, work: int, relaxed: bool) -> tuple[float, int]:
    """A bound, `low` or better, and what is left of the work; offers the plans of its searches.

    `relaxed`: as in `Chains.search`, for what an exact search gave up.
    """
    high = min(best.seconds, _FOREVER)
    # Low limits leave few states: they come first.
    step = 0.01 * low or high / 100
    while low < high * (1 - 1e-10) and work > 0:
        limit = min(low + step, (low + high) / 2) if low < high * (1 - _CLOSE) else high * (1 - 1e-10)
        step *= 2
        found = chains.search(limit, min(work, _WORK // 8), _MANY, relaxed)
        work -= found.work
        seconds = best.offer(found.stage)
        if found.none:
            low = limit
        elif best.seconds > limit > high * (1 - _CLOSE):
            break
        else:  # what does not fit bounds the bound, too
            high = min(limit, seconds, best.seconds)
    return low, max(work, 0)


def _find(chains: Chains, best: _Best, low: float, work: int) -> None:
    """Offers the plans of searches that keep `_FEW` states, above the bound `low`."""
    high = min(best.seconds, _FOREVER)
    while low < high * (1 - _CLOSE) and work > 0:
        limit = (low + high) / 2
        found = chains.search(limit, work, _FEW)
        work -= found.work
        best.offer(found.stage)
        low, high = (low, best.seconds) if best.seconds < limit else (limit, high)


def count_bound(problem: Problem, count: int) -> float:
    """Seconds that some stage takes: all work by all devices, or the least m + 1 of m × `count` + 1 items.

    A device does any item in the least time that one of the devices takes, and of another device's work at
    most what `speeds` says.
    """
    times = np.array([problem.on(at) for at in range(count)])
    seconds = np.sort(times.min(axis=0))[::-1]
    sums = np.concatenate([[0.0], np.cumsum(seconds)])
    bound = max(float(sums[-1]) / count, float(seconds[0]))
    for m in range(1, (len(seconds) - 1) // count + 1):
        last = m * count + 1
        bound = max(bound, float(sums[last] - sums[last - m - 1]))
    for mine in range(count):
        bound = max(bound, float(times[mine].sum() / max(speeds(times, mine).sum(), 1e-300)))
    return bound * (1 - 1e-12)


def item_bound(problem: Problem, best: Sequence[Link]) -> float:
    """Seconds of some item's stage: it makes or receives what the item reads, at most over `best`'s links."""
    seconds = np.array([problem.on(at) for at in range(len(best))]).min(axis=0).tolist()
    speed = max(link.bytes_per_second for link in best[1:]) if len(best) > 1 else 0.0
    needs: list[dict[int, int]] = [{} for _ in problem.items]
    for value in problem.values:
        if value.producer != INPUT:
            for reader in value.readers:
                needs[reader][value.producer] = needs[reader].get(value.producer, 0) + value.bytes
    bound = 0.0
    for item, need in zip(seconds, needs, strict=True):
        received = {p: size / speed if speed else float("inf") for p, size in need.items()}
        inputs = sum(min(seconds[p], wait) for p, wait in received.items())
        bound = max(bound, item + inputs)
    return bound * (1 - 1e-12)


def _check(problem: Problem, cluster: Cluster, count: int) -> None:
    if count < 1:
        raise InputError(f"stages={count}: there must be at least 1")
    if not problem.items:
        raise InputError("partition: the model has no nodes to share out")
    if count > len(problem.items):
        raise InputError(f"stages={count}: the model has only {len(problem.items)} nodes to share out")
    if count > len(cluster.devices):
        raise InputError(f"stages={count}: cluster '{cluster.name}' has only {len(cluster.devices)} devices")
    first = cluster.devices[0]
    for device in cluster.devices[1:count]:
        speed = (device.macs_per_second, device.bytes_per_second)
        if speed != (first.macs_per_second, first.bytes_per_second) and len(problem.times) < count:
            raise InputError(
                f"stages={count}: devices '{first.name}' and '{device.name}' differ in speed; "
                "the problem needs the seconds on each"
            )


def _links(cluster: Cluster, count: int) -> Links:
    names = [device.name for device in cluster.devices[:count]]
    return [[None if a == b else cluster.link(a, b) for b in names] for a in names]


def _neighbours(links: Links) -> list[Link]:
    """What each stage receives over from the one before it."""
    return [_FREE, *(links[s - 1][s] or _FREE for s in range(1, len(links)))]


def _best_links(links: Links) -> list[Link]:
    """For each stage a link that is as good as the best of all earlier stages' in both figures."""
    best = [_FREE]
    for s in range(1, len(links)):
        over = [link for link in (links[a][s] for a in range(s)) if link is not None]
        best.append(Link(min(x.latency_s for x in over), max(x.bytes_per_second for x in over)))
    return best


def _cut_chain(problem: Problem, links: Sequence[Link]) -> list[int]:
    """The best cut of a chain of any length, memory aside."""
    size = len(problem.items)
    sums = [np.concatenate([[0.0], np.cumsum(problem.on(at))]) for at in range(len(links))]
    crossing = np.zeros(size + 1)
    for value in problem.values:
        if value.producer != INPUT and value.readers:
            crossing[value.producer + 1] += value.bytes
    waits = [np.array([link.seconds(b) for b in crossing]) for link in links]

    def reach(most: float) -> list[Ints]:
        pairs = zip(sums, waits, strict=True)
        return [np.searchsorted(done, done + most - wait, side="right") - 1 for done, wait in pairs]

    longest = max(float(done[-1]) for done in sums)
    places = bisect(reach, 0.0, 2 * longest + sum(float(wait.max()) for wait in waits))
    if places is None:
        longest = max(link.latency_s for link in links)
        raise InputError(
            f"partition: beside a link's latency of {longest:g} s the nodes' {problem.seconds:g} s are lost "
            "in rounding; give times that go together"
        )
    return [s for s, (i, j) in enumerate(zip(places, places[1:], strict=False)) for _ in range(i, j)]


def _shortage(lines: Sequence[Line], cluster: Cluster, count: int) -> str:
    """What to say where nothing fits."""
    limits = [device.memory_bytes for device in cluster.devices]
    low, high = 0, max(int(sum(matrix.max() for matrix in line.memory)) for line in lines) * count
    while high - low > 1:
        middle = (low + high) // 2
        if any(line.fits([limit + middle for limit in limits[:count]]) for line in lines):
            high = middle
        else:
            low = middle
    device = f"each device of '{cluster.name}'"
    text = f"stages={count}: the model does not fit; {high} more bytes on {device} would do"
    most = min(len(limits), len(lines[0].order))
    for fewer in range(1, most + 1):
        if any(line.fits(limits[:fewer]) for line in lines):
            return f"{text}; the fewest stages found that fit are {fewer}"
    return f"{text}; no number of stages up to {most} was found to fit"
