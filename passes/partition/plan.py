"""A partition into pipeline stages, and what it costs."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from optc.passes.partition.cluster import Cluster
from optc.passes.partition.memory import StageMemory
from optc.passes.partition.problem import INPUT, Problem


@dataclass(frozen=True)
class Plan:
    """Stage s of K runs on the cluster's device s; the stages work on different micro-batches at once.

    `stage`: of each item. `compute`, `receive`: seconds a micro-batch, by stage; a stage receives, one after
    the other, one message from every stage that sends to it. `sent`: bytes a micro-batch by (from, to).
    `memory`: bytes by stage, as `stage_memory` says. `bound`: seconds that no plan can be below.
    """

    stage: tuple[int, ...]
    compute: tuple[float, ...]
    receive: tuple[float, ...]
    sent: Mapping[tuple[int, int], int]
    memory: tuple[int, ...]
    bound: float

    @property
    def bottleneck(self) -> float:
        """Seconds of the slowest stage: a full pipeline ends a micro-batch this often."""
        return max(c + r for c, r in zip(self.compute, self.receive, strict=True))

    @property
    def gap(self) -> float:
        """By how much of the bound the bottleneck passes it; 0 proves that no plan is better."""
        return max(self.bottleneck / self.bound - 1, 0.0) if self.bound else 0.0


def make_plan(problem: Problem, cluster: Cluster, stage: Sequence[int], bound: float = 0.0) -> Plan:
    """The plan that puts each item into its stage; every stage from 0 on has an item."""
    count = max(stage) + 1
    members: list[list[int]] = [[] for _ in range(count)]
    for place, at in enumerate(stage):
        members[at].append(place)
    sent: dict[tuple[int, int], int] = {}
    for value in problem.values:
        if value.producer != INPUT and value.bytes:
            for to in {stage[r] for r in value.readers} - {stage[value.producer]}:
                pair = (stage[value.producer], to)
                sent[pair] = sent.get(pair, 0) + value.bytes
    names = [device.name for device in cluster.devices]
    receive = [0.0] * count
    for (source, to), size in sorted(sent.items()):
        receive[to] += cluster.link(names[source], names[to]).seconds(size)
    compute = tuple(_sum(problem.on(at), group) for at, group in enumerate(members))
    holds = StageMemory(problem)
    parts = [holds.of(np.array(stage), at) for at in range(count)]
    memory = tuple(weights + (count - at) * live for at, (weights, live) in enumerate(parts))
    return Plan(tuple(stage), compute, tuple(receive), sent, memory, bound)


def _sum(seconds: Sequence[float], items: Sequence[int]) -> float:
    return sum(seconds[i] for i in items)


def stage_memory(problem: Problem, stage: Sequence[int], at: int, count: int) -> int:
    """Bytes that stage `at` of `count` needs: its weights + (count - at) × its largest live bytes.

    1F1B keeps count - at micro-batches in flight there, and each is counted with the most that is ever alive
    while the stage runs its items in the problem's order. A value lives from its producer, or its first
    reader here where it comes from outside, to its last reader here; to the end where another stage reads it
    or it is a result.
    """
    weights, live = StageMemory(problem).of(np.array(stage), at)
    return weights + (count - at) * live
