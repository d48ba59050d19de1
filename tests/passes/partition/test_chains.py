import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from problems import best_of_all, cluster, clusters, dags, unequal

from optc.passes.partition import chains
from optc.passes.partition.chains import Chains
from optc.passes.partition.cluster import Cluster
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
def test_the_best_chain_is_the_best_of_all(problem: Problem, count: int, data: st.DataObject) -> None:
    count = min(count, len(problem.items))
    on = data.draw(clusters(count))
    want = best_of_all(problem, on, count)
    assert want is not None
    search = all_chains(problem, on)
    found = search.search(want.bottleneck + 1e-6, 10**9)
    assert found.stage is not None and found.bound == pytest.approx(want.bottleneck)
    assert make_plan(problem, on, found.stage).bottleneck == pytest.approx(want.bottleneck)
    if want.bottleneck:
        assert search.search(want.bottleneck * (1 - 1e-9), 10**9).bound == np.inf


@settings(deadline=None, max_examples=100)
@given(dags() | unequal(), st.integers(1, 4), st.data())
def test_the_relaxed_search_is_a_bound(problem: Problem, count: int, data: st.DataObject) -> None:
    count = min(count, len(problem.items))
    on = data.draw(clusters(count))
    want = best_of_all(problem, on, count)
    assert want is not None
    found = all_chains(problem, on).search(want.bottleneck + 1e-6, 10**9, relaxed=True)
    assert found.stage is not None and found.bound <= want.bottleneck * (1 + 1e-9)


@settings(deadline=None, max_examples=100)
@given(dags(), st.integers(1, 4), st.data())
def test_a_search_that_drops_states_claims_nothing(problem: Problem, count: int, data: st.DataObject) -> None:
    count = min(count, len(problem.items))
    on = data.draw(clusters(count))
    want = best_of_all(problem, on, count)
    assert want is not None
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(chains, "KEPT", 1)
        found = all_chains(problem, on).search(want.bottleneck * 2 + 1e-6, 10**9)
    assert found.bound <= want.bottleneck * (1 + 1e-9)


@given(dags())
def test_a_search_gives_up_when_it_has_worked_enough(problem: Problem) -> None:
    found = all_chains(problem, cluster(1)).search(1e9, 0)
    assert found.stage is None and found.bound == 0


@given(dags())
def test_down_sets_know_what_is_still_read(problem: Problem) -> None:
    sets: DownSets = down_sets(problem, [])
    used = [v for v in problem.values if v.producer >= 0 and v.bytes and v.readers]
    for row, inside in enumerate(sets.member):
        pending = [
            n for n, v in enumerate(used) if inside[v.producer] and not all(inside[r] for r in v.readers)
        ]
        assert sets.pending.items[sets.pending.at[row] : sets.pending.at[row + 1]].tolist() == pending
        makers = sorted({used[n].producer for n in pending})
        mine = sets.makers.items[sets.makers.at[row] : sets.makers.at[row + 1]].tolist()
        assert mine == makers
        places = sets.maker_of[sets.pending.at[row] : sets.pending.at[row + 1]]
        assert [mine[p] for p in places] == [used[n].producer for n in pending]


def test_a_fast_state_of_more_messages_is_kept() -> None:
    # a | x y z | end sends one message and takes 9 s; a x | y z | end sends two and takes 6.
    items = tuple(
        Item(name, seconds) for name, seconds in zip("axyze", (1.0, 3.0, 3.0, 3.0, 4.5), strict=True)
    )
    values = (Value("a", 0, (), 1, True), *(Value(f"v{i}", i, (4,), 1) for i in (1, 2, 3)))
    found = all_chains(Problem(items, values), cluster(3, 0.5, 1e9)).search(100.0, 10**9)
    assert found.bound == pytest.approx(6.0)
