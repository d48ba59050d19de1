"""Moves of items between stages: valid, never slower, within the memory, and their sums right."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from problems import clusters, dags, every, unequal

from optc.passes.partition import moves
from optc.passes.partition.cluster import Cluster
from optc.passes.partition.memory import StageMemory
from optc.passes.partition.moves import improve
from optc.passes.partition.moves_kernel import anneal
from optc.passes.partition.plan import Plan, make_plan
from optc.passes.partition.problem import INPUT, Problem


def start(problem: Problem, data: st.DataObject) -> tuple[int, Cluster, list[int]]:
    """A number of stages, devices for them, and some partition."""
    count = data.draw(st.integers(1, min(4, len(problem.items))))
    on = data.draw(clusters(count))
    found = [list(stage) for stage in every(problem, count)]
    return count, on, data.draw(st.sampled_from(found))


def links(on: Cluster, count: int) -> moves.Links:
    names = [d.name for d in on.devices[:count]]
    return [[None if a == b else on.link(a, b) for b in names] for a in names]


def check(problem: Problem, on: Cluster, stage: list[int], count: int) -> Plan:
    assert set(stage) == set(range(count))
    for value in problem.values:
        if value.producer != INPUT:
            assert all(stage[value.producer] <= stage[reader] for reader in value.readers)
    return make_plan(problem, on, stage)


@settings(deadline=None, max_examples=60)
@given(dags() | unequal(), st.data())
def test_partitions_stay_valid_and_get_no_slower(problem: Problem, data: st.DataObject) -> None:
    count, on, stage = start(problem, data)
    before = check(problem, on, stage, count)
    after = check(problem, on, improve(problem, links(on, count), stage, None, 0), count)
    assert after.bottleneck <= before.bottleneck * (1 + 1e-9)


@settings(deadline=None, max_examples=60)
@given(dags(), st.data())
def test_no_stage_needs_more_memory_than_there_is(problem: Problem, data: st.DataObject) -> None:
    count, on, stage = start(problem, data)
    before = check(problem, on, stage, count)
    limits = [need + data.draw(st.integers(0, 9)) for need in before.memory]
    holds = StageMemory(problem)

    def room(placed: moves.Ints, at: int) -> tuple[int, int]:
        weights, live = holds.of(placed, at)
        return weights, limits[at] - (count - at) * live

    after = check(problem, on, improve(problem, links(on, count), stage, room, 0), count)
    assert all(need <= limit for need, limit in zip(after.memory, limits, strict=True))
    assert after.bottleneck <= before.bottleneck * (1 + 1e-9)


@settings(deadline=None, max_examples=100)
@given(dags() | unequal(), st.data())
def test_the_seconds_that_are_kept_up_to_date_are_those_of_the_plan(
    problem: Problem, data: st.DataObject
) -> None:
    count, on, stage = start(problem, data)
    times = np.array([problem.on(at) for at in range(count)])
    weights = (*moves._weights(problem), np.full(count, 1e30))
    over = moves._costs(links(on, count))
    found, slowest = anneal(
        np.array(stage), times, moves._graph(problem), over, weights, (500, 1.0, 1e-3, 4.0), 0
    )
    plan = check(problem, on, [int(at) for at in found], count)
    assert slowest == pytest.approx(plan.bottleneck)
