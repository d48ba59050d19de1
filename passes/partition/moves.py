"""Improving a plan by moving items between stages, seeded and within a budget of steps."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np
from numpy.typing import NDArray

from optc.passes.partition.cluster import Link
from optc.passes.partition.problem import INPUT, Problem

STEPS, PER_ITEM = 8_000_000, 4000
"""Moves tried at most, of all and for each item."""

WALKS = ((0.75, 5e-2, 1e-4, 32.0), (0.25, 1e-5, 1e-8, 64.0))
"""Of each walk its share of the steps, its temperatures, and the power to which the stages' seconds, as parts
of the slowest's, are summed: the higher, the more the slowest alone counts.
"""

ROUNDS, LESS = 4, 0.98
"""How often in a walk the stages' memory is looked at, where it counts; what a short one gets of its room."""

Ints = NDArray[np.int64]

Links = Sequence[Sequence[Link | None]]
"""[sender][receiver], None for a stage with itself."""

Room = Callable[[Ints, int], tuple[int, int]]
"""Of a partition's stage: the bytes of its weights, and how many they may be."""


def fits(stage: Ints, at: int, room: Room | None) -> bool:
    """Whether stage `at` has the memory that it needs."""
    taken, may = room(stage, at) if room else (0, 0)
    return taken <= may


def improve(problem: Problem, links: Links, stage: Sequence[int], room: Room | None, seed: int) -> list[int]:
    """A partition that is no slower than `stage`, which fits into `room` (None: everything does).

    Simulated annealing (Kirkpatrick et al. 1983) of single items, each to any stage that is not before what
    it reads, nor after who reads it. What live values take is looked at between `ROUNDS` of moves; a round
    after which some stage's memory is short is taken back, and that stage gets less room.
    """
    from optc.passes.partition.moves_kernel import anneal

    count = len(links)
    steps = min(STEPS, PER_ITEM * len(stage)) if count > 1 else 0
    best: Ints = np.array(stage, np.int64)
    if not steps:
        return [int(at) for at in best]
    times = np.array([problem.on(at) for at in range(count)])
    graph, over, weights = _graph(problem), _costs(links), _weights(problem)
    rounds = ROUNDS if room else 1
    share = np.ones(count)
    for part, hot, cold, power in WALKS:
        cooling = (cold / hot) ** (1 / rounds)
        for turn in range(rounds):
            schedule = (int(steps * part / rounds), hot * cooling**turn, hot * cooling ** (turn + 1), power)
            may = np.array([room(best, at)[1] if room else 2**62 for at in range(count)]) * share
            found, _ = anneal(best.copy(), times, graph, over, (*weights, may), schedule, seed + turn)
            short = [at for at in range(count) if not fits(found, at, room)]
            share[short] *= LESS
            best = best if short else found
    return [int(at) for at in best]


def _graph(problem: Problem) -> tuple[Ints, ...]:
    """Readers of values, their producers and bytes; the values that items make, and those that they read."""
    made: list[list[int]] = [[] for _ in problem.items]
    read: list[list[int]] = [[] for _ in problem.items]
    for number, value in enumerate(problem.values):
        if value.producer != INPUT:
            made[value.producer].append(number)
            for reader in value.readers:
                read[reader].append(number)
    producers = np.array([v.producer for v in problem.values], np.int64)
    sizes = np.array([v.bytes for v in problem.values], np.int64)
    return (*_rows([v.readers for v in problem.values]), producers, sizes, *_rows(made), *_rows(read))


def _weights(problem: Problem) -> tuple[Ints, Ints, Ints]:
    """The weights of the items, and their bytes."""
    read: list[list[int]] = [[] for _ in problem.items]
    for number, weight in enumerate(problem.weights):
        for reader in weight.readers:
            read[reader].append(number)
    return (*_rows(read), np.array([w.bytes for w in problem.weights], np.int64))


def _costs(links: Links) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Latency and seconds a byte, [sender, receiver]."""
    latency = [[link.latency_s if link else 0.0 for link in row] for row in links]
    slowness = [[1 / link.bytes_per_second if link else 0.0 for link in row] for row in links]
    return np.array(latency), np.array(slowness)


def _rows(lists: Sequence[Sequence[int]]) -> tuple[Ints, Ints]:
    """Where each list begins in all of them, and all of them."""
    starts = np.concatenate([[0], np.cumsum([len(row) for row in lists], dtype=np.int64)]).astype(np.int64)
    return starts, np.array([entry for row in lists for entry in row], np.int64)
