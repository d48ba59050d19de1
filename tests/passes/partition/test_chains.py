import dataclasses

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from problems import best_of_all, chain, cluster, clusters, dags, unequal

from optc.passes.partition import downsets
from optc.passes.partition.chains import Chains
from optc.passes.partition.cluster import Cluster, Link
from optc.passes.partition.downsets import DownSets, down_sets
from optc.passes.partition.order import orders
from optc.passes.partition.plan import make_plan
from optc.passes.partition.problem import Item, Problem, Value


def all_chains(problem: Problem, on: Cluster) -> Chains:
    sets = down_sets(problem, orders(problem))
    assert sets.whole
    names = [device.name for device in on.devices]
    links = [[None if a == b else on.link(a, b) for b in names] for a in names]
    return Chains(sets, np.array([problem.on(at) for at in range(len(names))]), links)


@settings(deadline=None, max_examples=300)
@given(dags() | unequal(), st.integers(1, 4), st.data())
def test_a_plan_is_found_exactly_where_there_is_one(
    problem: Problem, count: int, data: st.DataObject
) -> None:
    count = min(count, len(problem.items))
    on = data.draw(clusters(count))
    want = best_of_all(problem, on, count)
    assert want is not None
    search = all_chains(problem, on)
    limit = want.bottleneck * (1 + 1e-9) + 1e-9
    found = search.search(limit, 10**9, 1000)
    assert found.stage is not None and not found.none
    assert make_plan(problem, on, found.stage).bottleneck < limit * (1 + 1e-9)
    if want.bottleneck:
        found = search.search(want.bottleneck * (1 - 1e-9), 10**9, 1000)
        assert found.none and found.stage is None


@settings(deadline=None, max_examples=100)
@given(dags() | unequal(), st.integers(1, 4), st.booleans(), st.data())
def test_nothing_is_denied_by_the_relaxed_search_or_by_one_that_drops_states(
    problem: Problem, count: int, relaxed: bool, data: st.DataObject
) -> None:
    count = min(count, len(problem.items))
    on = data.draw(clusters(count))
    want = best_of_all(problem, on, count)
    assert want is not None
    limit = want.bottleneck * (1 + 1e-9) + 1e-9
    found = all_chains(problem, on).search(limit, 10**9, 1000 if relaxed else 1, relaxed)
    assert not found.none
    if not relaxed and found.stage is not None:
        assert make_plan(problem, on, found.stage).bottleneck < limit * (1 + 1e-9)


@given(dags())
def test_a_search_gives_up_when_it_has_worked_enough(problem: Problem) -> None:
    found = all_chains(problem, cluster(1)).search(1e9, 0, 1000)
    assert found.stage is None and not found.none


def test_links_to_the_stage_itself_tell_senders_apart() -> None:
    # Stages 0 and 1 are alike to those after stage 2, not to it: what it reads must come from stage 1.
    on = cluster(4, 1.0, 1e9)
    far = dataclasses.replace(on, links={**on.links, ("d0", "d2"): Link(9.0, 1e9)})
    problem = Problem(
        tuple(Item(f"i{i}", s) for i, s in enumerate((4.0, 4.0, 3.0, 3.0))),
        (Value("a", 0, (2,), 1), Value("b", 1, (3,), 1)),
    )
    want = best_of_all(problem, far, 4)
    assert want is not None
    search = all_chains(problem, far)
    assert search.search(want.bottleneck + 1e-9, 10**9, 1000).stage is not None
    assert search.search(want.bottleneck - 1e-9, 10**9, 1000).none


def _is_exact(problem: Problem, on: Cluster, seconds: float) -> None:
    want = best_of_all(problem, on, len(on.devices))
    assert want is not None and want.bottleneck == pytest.approx(seconds)
    search = all_chains(problem, on)
    assert search.search(seconds + 1e-6, 10**9, 1000).stage is not None
    assert search.search(seconds - 1e-6, 10**9, 1000).none


def test_a_value_that_is_there_counts_for_more_than_a_small_lead() -> None:
    # a | i k j is behind a i | k j until j, which both read; then it has it.
    items = tuple(Item(name, s) for name, s in zip("aikj", (1.0, 0.5, 1.0, 1.0), strict=True))
    values = (Value("a", 0, (1, 3), 4), Value("i", 1, (2,), 3), Value("k", 2, (3,), 9))
    _is_exact(Problem(items, values), cluster(2), 6.5)


def test_a_message_that_is_there_counts_for_more_than_a_small_lead() -> None:
    # a | g | i k j is behind a | g i | k j until j; on the second device j is slow.
    seconds = (7.2, 1.0, 0.5, 1.0, 1.0)
    items = tuple(Item(name, s) for name, s in zip("agikj", seconds, strict=True))
    values = (Value("a", 0, (2, 4), 1), Value("i", 2, (3,), 1), Value("k", 3, (4,), 1))
    times = (seconds, (*seconds[:4], 100.0), seconds)
    _is_exact(Problem(items, values, times=times), cluster(3, 5.0, 1e9), 7.5)


def test_steps_lead_to_the_next_larger_sets() -> None:
    sets = down_sets(chain([1.0] * 3, [1] * 3), [])
    assert sets.steps.items.tolist() == [1, 2, 3] and sets.steps.at.tolist() == [0, 1, 2, 3, 3]


@given(dags())
def test_steps_along_orders_lead_to_every_order(problem: Problem) -> None:
    ways = orders(problem)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(downsets, "MOST", 0)
        sets = down_sets(problem, ways)
    assert not sets.whole
    for row, inside in enumerate(sets.member):
        ends = sets.member[sets.steps.items[sets.steps.at[row] : sets.steps.at[row + 1]]]
        assert (ends & inside == inside).all() and (ends.sum(axis=1) > inside.sum()).all()
        for way in ways:
            prefixes = [np.isin(np.arange(len(way)), way[:n]) for n in range(len(way) + 1)]
            larger = [p for p in prefixes if (p & inside == inside).all() and p.sum() > inside.sum()]
            assert not larger or (ends == larger[0]).all(axis=1).any()


@given(dags())
def test_down_sets_know_what_is_still_read(problem: Problem) -> None:
    sets: DownSets = down_sets(problem, [])
    used = [v for v in problem.values if v.producer >= 0 and v.bytes and v.readers]
    for row, inside in enumerate(sets.member):
        pending = [
            n for n, v in enumerate(used) if inside[v.producer] and not all(inside[r] for r in v.readers)
        ]
        assert sets.pending.items[sets.pending.at[row] : sets.pending.at[row + 1]].tolist() == pending


def test_a_fast_state_of_more_messages_is_kept() -> None:
    # a | x y z | end sends one message and takes 9 s; a x | y z | end sends two and takes 6.
    items = tuple(
        Item(name, seconds) for name, seconds in zip("axyze", (1.0, 3.0, 3.0, 3.0, 4.5), strict=True)
    )
    values = (Value("a", 0, (), 1, True), *(Value(f"v{i}", i, (4,), 1) for i in (1, 2, 3)))
    search = all_chains(Problem(items, values), cluster(3, 0.5, 1e9))
    assert search.search(6.0 + 1e-6, 10**9, 1000).stage is not None
    assert search.search(6.0 - 1e-6, 10**9, 1000).none
