import dataclasses

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from problems import best_of_all, chain, cluster, clusters, unequal

from optc.models.errors import InputError
from optc.passes.partition import downsets
from optc.passes.partition.check import check_plan
from optc.passes.partition.cluster import Device, Link
from optc.passes.partition.problem import Problem
from optc.passes.partition.stages import count_bound, item_bound, stages


@settings(deadline=None, max_examples=150)
@given(unequal(), st.integers(1, 4), st.data())
def test_stages_on_unequal_devices_are_as_good_as_by_trying_all(
    problem: Problem, count: int, data: st.DataObject
) -> None:
    count = min(count, len(problem.items))
    on = data.draw(clusters(count))
    want = best_of_all(problem, on, count)
    plan = stages(problem, on, count)
    check_plan(problem, on, plan)
    assert want is not None and plan.bottleneck == pytest.approx(want.bottleneck) and plan.gap < 1e-9


@settings(deadline=None, max_examples=100)
@given(unequal(), st.integers(1, 4), st.integers(20, 90), st.booleans())
def test_the_gap_holds_where_memory_is_short_or_the_graph_wide(
    problem: Problem, count: int, memory: int, wide: bool
) -> None:
    count = min(count, len(problem.items))
    on = cluster(count, 1.0, 2.0, memory)
    want = best_of_all(problem, on, count)
    with pytest.MonkeyPatch.context() as patch:
        if wide:
            patch.setattr(downsets, "MOST", 0)
        try:
            plan = stages(problem, on, count)
        except InputError:
            return
    check_plan(problem, on, plan)
    assert want is not None and plan.bound <= want.bottleneck * (1 + 1e-9)
    assert want.bottleneck * (1 - 1e-9) <= plan.bottleneck


@settings(deadline=None, max_examples=150)
@given(unequal(), st.integers(1, 4))
def test_the_simple_bounds_hold(problem: Problem, count: int) -> None:
    count = min(count, len(problem.items))
    want = best_of_all(problem, cluster(count, 0.0, 2.0), count)
    assert want is not None and count_bound(problem, count) <= want.bottleneck
    assert item_bound(problem, [Link(0.0, 2.0)] * count) <= want.bottleneck


def test_a_fast_device_gets_more() -> None:
    problem = dataclasses.replace(chain([3.0] * 4, [0] * 4), times=((3.0,) * 4, (1.0,) * 4))
    plan = stages(problem, cluster(2), 2)
    assert plan.stage == (0, 1, 1, 1) and plan.compute == (3.0, 3.0) and plan.gap < 1e-9
    # Of 12 s on one, the other does three times as much: 3 s for both.
    assert count_bound(problem, 2) == pytest.approx(3.0)


def test_a_problem_knows_the_seconds_on_every_device() -> None:
    from test_problem import parse

    model = parse("g (float[2,8] x) => (float[2,4] y) { y = MatMul(x, w) }", w=(8, 4))
    slow, fast = Device("slow", 100.0, 1e9, 1), Device("fast", 400.0, 1e9, 1)
    assert Problem.of(model, slow, fast).times == ((0.64,), (0.16,))
    assert Problem.of(model, slow, slow).times == () and Problem.of(model, slow).on(3) == (0.64,)
