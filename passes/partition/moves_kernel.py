"""Simulated annealing of items between stages, compiled by numba. Indexing is plain, for its sake."""

from __future__ import annotations

from typing import Any

import numpy as np
from numba.extending import register_jitable

from optc.passes.compiled import compiled


def _anneal(stage: Any, times: Any, graph: Any, links: Any, weights: Any, schedule: Any, seed: int) -> Any:
    """The best partition seen on a walk from `stage`, and its slowest stage's seconds.

    times: [stage, item]. graph: what `moves._graph` makes. links: latency and seconds a byte, each [sender,
    receiver]. weights: where each item's begin, their numbers, their bytes, and what a stage's may take.
    schedule: steps, the first and the last temperature, the power of the sum that moves make less.
    """
    np.random.seed(seed)
    steps, hot, cold, power = schedule
    count = len(times)
    slots = _slots(stage, times, graph, links, weights)
    seconds, members = slots[0], slots[4]
    scale = seconds.max()
    best, slowest = stage.copy(), seconds.max()
    if scale <= 0:
        return best, slowest
    before = np.empty(count)
    cooling = (cold / hot) ** (1 / steps)
    heat = hot
    for _ in range(steps):
        heat *= cooling
        item = np.random.randint(len(stage))
        at = stage[item]
        low, high = _window(item, stage, graph, count)
        if low == high or members[at] == 1:
            continue
        to = low + np.random.randint(high - low + 1)
        if to == at or _excess(item, to, weights, slots):
            continue
        before[:] = seconds
        _move(item, to, stage, times, graph, links, weights, slots)
        change = 0.0
        for s in range(count):
            if seconds[s] != before[s]:
                change += (seconds[s] / scale) ** power - (before[s] / scale) ** power
        if change > 0 and np.random.random() >= np.exp(-change / heat):
            _move(item, at, stage, times, graph, links, weights, slots)
            seconds[:] = before
        elif seconds.max() < slowest:
            best[:], slowest = stage, seconds.max()
    return best, slowest


def _slots(stage: Any, times: Any, graph: Any, links: Any, weights: Any) -> Any:
    """What is kept of a partition: seconds of stages; readers of values, bytes sent, readers of weights by
    stage; items of stages; bytes of their weights.
    """
    readers_at, readers, producer, sizes = graph[:4]
    weights_at, numbers, weight_sizes = weights[:3]
    count = len(times)
    seconds, members, held = np.zeros(count), np.zeros(count, np.int64), np.zeros(count, np.int64)
    reads = np.zeros((len(sizes), count), np.int32)
    sent = np.zeros((count, count), np.int64)
    holds = np.zeros((len(weight_sizes), count), np.int32)
    slots = (seconds, reads, sent, holds, members, held)
    for item in range(len(stage)):
        at = stage[item]
        seconds[at] += times[at, item]
        members[at] += 1
        for w in range(weights_at[item], weights_at[item + 1]):
            if not holds[numbers[w], at]:
                held[at] += weight_sizes[numbers[w]]
            holds[numbers[w], at] += 1
    for value in range(len(sizes)):
        for r in range(readers_at[value], readers_at[value + 1]):
            to = stage[readers[r]]
            if producer[value] >= 0 and not reads[value, to]:
                _send(stage[producer[value]], to, sizes[value], links, slots)
            reads[value, to] += 1
    return slots


def _window(item: int, stage: Any, graph: Any, count: int) -> Any:
    """The first and the last stage that the item may be in, the others where they are."""
    readers_at, readers, producer, _, made_at, made, read_at, read = graph
    low, high = 0, count - 1
    for entry in range(read_at[item], read_at[item + 1]):
        maker = producer[read[entry]]
        if maker >= 0 and stage[maker] > low:
            low = stage[maker]
    for entry in range(made_at[item], made_at[item + 1]):
        value = made[entry]
        for r in range(readers_at[value], readers_at[value + 1]):
            if stage[readers[r]] < high:
                high = stage[readers[r]]
    return low, high


def _excess(item: int, to: int, weights: Any, slots: Any) -> bool:
    """Whether stage `to` has no room for the item's weights."""
    weights_at, numbers, sizes, room = weights
    holds, held = slots[3], slots[5]
    more = 0
    for w in range(weights_at[item], weights_at[item + 1]):
        if not holds[numbers[w], to]:
            more += sizes[numbers[w]]
    return more > 0 and held[to] + more > room[to]


def _move(
    item: int, to: int, stage: Any, times: Any, graph: Any, links: Any, weights: Any, slots: Any
) -> None:
    """Put the item into stage `to`."""
    _, _, producer, sizes, made_at, made, read_at, read = graph
    seconds, reads, _, _, members, _ = slots
    at = stage[item]
    for entry in range(made_at[item], made_at[item + 1]):
        value = made[entry]
        for s in range(len(seconds)):
            if reads[value, s]:
                _send(at, s, -sizes[value], links, slots)
                _send(to, s, sizes[value], links, slots)
    for entry in range(read_at[item], read_at[item + 1]):
        value = read[entry]
        reads[value, at] -= 1
        if producer[value] >= 0:
            source = stage[producer[value]]
            if not reads[value, at]:
                _send(source, at, -sizes[value], links, slots)
            if not reads[value, to]:
                _send(source, to, sizes[value], links, slots)
        reads[value, to] += 1
    _hold(item, at, to, weights, slots)
    seconds[at] -= times[at, item]
    seconds[to] += times[to, item]
    members[at] -= 1
    members[to] += 1
    stage[item] = to


def _hold(item: int, at: int, to: int, weights: Any, slots: Any) -> None:
    """The item's weights are read in stage `to`, no longer in `at`."""
    weights_at, numbers, sizes, _ = weights
    holds, held = slots[3], slots[5]
    for w in range(weights_at[item], weights_at[item + 1]):
        weight = numbers[w]
        holds[weight, at] -= 1
        if not holds[weight, at]:
            held[at] -= sizes[weight]
        if not holds[weight, to]:
            held[to] += sizes[weight]
        holds[weight, to] += 1


def _send(source: int, to: int, size: int, links: Any, slots: Any) -> None:
    """So many bytes more from stage `source` to stage `to`."""
    if source == to or size == 0:
        return
    latency, slowness = links
    seconds, sent = slots[0], slots[2]
    first = sent[source, to] == 0
    sent[source, to] += size
    seconds[to] += size * slowness[source, to]
    if first:
        seconds[to] += latency[source, to]
    elif sent[source, to] == 0:
        seconds[to] -= latency[source, to]


for _helper in (_slots, _window, _excess, _move, _hold, _send):
    register_jitable(_helper)

anneal = compiled(_anneal)
