import dataclasses
import random

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from problems import best_of_all, chain, chains, cluster, clusters, dags, every

from optc.models.errors import CheckError, InputError
from optc.models.source import open_source
from optc.passes.analysis.counts import node_macs
from optc.passes.partition import downsets
from optc.passes.partition import stages as solver
from optc.passes.partition.check import check_plan
from optc.passes.partition.cluster import Cluster, Link, load_cluster
from optc.passes.partition.line import Line
from optc.passes.partition.order import orders
from optc.passes.partition.plan import make_plan
from optc.passes.partition.problem import INPUT, Item, Problem, Value, Weight
from optc.passes.partition.stages import count_bound, item_bound, stages

COUNTS = st.integers(1, 4)
LATENCIES = st.sampled_from([0.0, 1.0, 5.0])


@settings(deadline=None, max_examples=150)
@given(chains(), COUNTS, LATENCIES, st.integers(10, 60))
def test_chains_are_cut_as_well_as_by_trying_all(
    problem: Problem, count: int, latency: float, memory: int
) -> None:
    count = min(count, len(problem.items))
    for on in (cluster(count, latency, 2.0), cluster(count, latency, 2.0, memory)):
        want = best_of_all(problem, on, count)
        if want is None:
            with pytest.raises(InputError, match="does not fit"):
                stages(problem, on, count)
            continue
        plan = stages(problem, on, count)
        check_plan(problem, on, plan)
        assert plan.bottleneck == pytest.approx(want.bottleneck)
        assert plan.gap < 1e-9


@settings(deadline=None, max_examples=150)
@given(dags(), COUNTS, LATENCIES, st.integers(20, 90), st.booleans())
def test_graphs_are_within_the_reported_gap_of_the_best(
    problem: Problem, count: int, latency: float, memory: int, wide: bool
) -> None:
    count = min(count, len(problem.items))
    with pytest.MonkeyPatch.context() as patch:
        if wide:
            patch.setattr(downsets, "MOST", 0)
        for on in (cluster(count, latency, 2.0), cluster(count, latency, 2.0, memory)):
            want = best_of_all(problem, on, count)
            try:
                plan = stages(problem, on, count)
            except InputError:
                # Where memory is short only some orders are looked along.
                assert on.devices[0].memory_bytes == memory
                continue
            check_plan(problem, on, plan)
            assert want is not None and plan.bound <= want.bottleneck * (1 + 1e-9)
            assert want.bottleneck * (1 - 1e-9) <= plan.bottleneck <= plan.bound * (1 + plan.gap) * (1 + 1e-9)


@settings(deadline=None, max_examples=100)
@given(dags(), COUNTS, st.data())
def test_narrow_graphs_are_exact(problem: Problem, count: int, data: st.DataObject) -> None:
    count = min(count, len(problem.items))
    on = data.draw(clusters(count))
    plan, want = stages(problem, on, count), best_of_all(problem, on, count)
    assert want is not None and plan.bottleneck == pytest.approx(want.bottleneck) and plan.gap < 1e-9


@settings(deadline=None, max_examples=100)
@given(dags(), COUNTS)
def test_the_bound_by_counting_holds(problem: Problem, count: int) -> None:
    count = min(count, len(problem.items))
    want = best_of_all(problem, cluster(count, 0.0, 1e9), count)
    assert want is not None and count_bound(problem, count) <= want.bottleneck


def test_the_bound_by_counting_sees_indivisible_items() -> None:
    # Three items of 5 s on two devices: one of them gets two.
    assert count_bound(chain([5.0, 5.0, 5.0], [0] * 3), 2) == pytest.approx(10)


@settings(deadline=None, max_examples=100)
@given(dags(), COUNTS)
def test_the_bound_by_items_holds(problem: Problem, count: int) -> None:
    count = min(count, len(problem.items))
    want = best_of_all(problem, cluster(count, 0.0, 2.0), count)
    assert want is not None and item_bound(problem, [Link(0.0, 2.0)] * count) <= want.bottleneck


def test_the_bound_by_items_sees_that_inputs_are_made_or_received() -> None:
    problem = chain([6.0, 9.0, 1.0], [8, 2, 1])
    assert item_bound(problem, [Link(1.0, 2.0)] * 2) == pytest.approx(9 + 4)
    assert item_bound(problem, [Link(1.0, 1.0)] * 2) == pytest.approx(9 + 6)


@settings(deadline=None, max_examples=60)
@given(dags(), st.integers(0, 7), st.integers(0, 7))
def test_a_line_knows_what_a_stage_receives_and_holds(problem: Problem, i: int, j: int) -> None:
    size = len(problem.items)
    i, j = min(i, size - 1), min(j, size)
    if not i < j:
        return
    on = cluster(3, 0.0, 1.0)
    stage = [0 if p < i else 1 if p < j else 2 for p in range(size)]
    for order in orders(problem)[:1]:
        line = Line(problem, order)
        plan_stage = [s - min(stage) for s in stage]
        at = 1 - min(stage)
        plan = make_plan(problem, on, plan_stage)
        assert line.received[i, j] == sum(b for (_, to), b in plan.sent.items() if to == at)
        weights, live = line.memory
        count = max(plan_stage) + 1
        # A received value that later stages read too may be counted for longer.
        assert weights[i, j] + (count - at) * live[i, j] >= plan.memory[at]


def random_graph(size: int, seed: int, window: int) -> Problem:
    draw = random.Random(seed)
    readers: list[list[int]] = [[] for _ in range(size)]
    for place in range(1, size):
        for source in {
            draw.randrange(max(0, place - window), place) for _ in range(draw.choice((1, 1, 2, 3)))
        }:
            readers[source].append(place)
    items = tuple(Item(f"i{i}", draw.expovariate(1e5)) for i in range(size))
    values = tuple(
        Value(f"v{i}", i, tuple(r), draw.randrange(1000, 100_000), not r) for i, r in enumerate(readers)
    )
    return Problem(items, values)


def test_large_graphs_end_near_their_bound() -> None:
    problem, on = random_graph(10_000, 7, 30), cluster(16, 1e-5, 1e10, 10**15)
    plan = stages(problem, on, 16)
    assert plan.gap < 0.1 and len(set(plan.stage)) == 16
    assert all(plan.stage[v.producer] <= plan.stage[r] for v in problem.values for r in v.readers)
    assert plan == make_plan(problem, on, plan.stage, plan.bound)


def test_equal_arguments_give_equal_plans() -> None:
    problem, on = random_graph(300, 3, 12), cluster(6, 1e-5, 1e10)
    assert stages(problem, on, 6) == stages(problem, on, 6)


def test_moves_help_and_never_hurt(monkeypatch: pytest.MonkeyPatch) -> None:
    problem, on = random_graph(1200, 5, 300), cluster(8, 1e-5, 1e10)
    moved = stages(problem, on, 8)
    monkeypatch.setattr(solver, "improve", lambda problem, links, stage, room, seed: list(stage))
    assert moved.bottleneck < stages(problem, on, 8).bottleneck


@pytest.mark.parametrize("count", [2, 4, 8])
def test_a_real_model(count: int) -> None:
    model = open_source("zoo:fashion-resnet").model
    node = load_cluster("vta-4-boards")
    names = [f"b{i}" for i in range(8)]
    devices = tuple(dataclasses.replace(node.devices[0], name=name) for name in names)
    link = node.link("board0", "board1")
    on = Cluster("eight", devices, {(a, b): link for i, a in enumerate(names) for b in names[i + 1 :]})
    problem = Problem.of(model, devices[0])
    plan = stages(problem, on, count)
    check_plan(problem, on, plan)
    assert plan.gap < 1e-6
    size = len(problem.items)
    by_count = [i * count // size for i in range(size)]
    assert plan.bottleneck <= make_plan(problem, on, by_count).bottleneck
    macs = node_macs(model)
    done, total, by_macs = 0, sum(macs.values()), []
    for item in problem.items:
        by_macs.append(min(done * count // total, count - 1))
        done += macs.get(item.name, 0)
    assert plan.bottleneck <= make_plan(problem, on, by_macs).bottleneck


def test_a_value_is_sent_once_to_each_stage_that_reads_it() -> None:
    items = tuple(Item(f"i{i}", 1.0) for i in range(4))
    values = (
        Value("a", 0, (1, 2, 3), 8),
        Value("b", 1, (2,), 1),
        Value("c", 2, (3,), 1),
        Value("x", INPUT, (3,), 99),
    )
    plan = make_plan(Problem(items, values), cluster(3, 0.5, 2.0), [0, 1, 2, 2])
    assert plan.sent == {(0, 1): 8, (0, 2): 8, (1, 2): 1}
    assert plan.receive == (0.0, 4.5, 4.5 + 1.0)


def test_slow_links_are_kept_free() -> None:
    # Equal halves would send 100 bytes over the link between d0 and d1; d2 is near d1.
    problem = chain([8.0, 4.0, 4.0, 4.0], [1, 100, 2, 1])
    assert stages(problem, cluster(2, 0.0, 1.0), 2).stage == (0, 1, 1, 1)
    on = cluster(3, 0.0, 1.0)
    fast = Cluster("near", on.devices, {**on.links, ("d1", "d2"): Link(0.0, 1e9)})
    assert stages(problem, fast, 3).stage == (0, 1, 2, 2)


def test_memory_decides_the_cut_and_a_shortage_is_told() -> None:
    problem = chain([1.0] * 4, [0] * 4, [60, 10, 10, 10])
    assert stages(problem, cluster(2, memory=60), 2).stage == (0, 1, 1, 1)
    with pytest.raises(InputError, match=r"stages=2: .* 5 more bytes .* no number of stages up to 4"):
        stages(problem, cluster(4, memory=55), 2)
    with pytest.raises(InputError, match=r"stages=2: .* 10 more bytes .* fewest stages found that fit are 3"):
        stages(chain([1.0] * 4, [0] * 4, [20, 20, 10, 20]), cluster(4, memory=30), 2)


def test_micro_batches_in_flight_take_memory() -> None:
    # One value of 10 bytes is read while one is made: 20 live, 2 in flight on stage 0.
    plan = stages(chain([1.0] * 4, [10] * 4), cluster(2), 2)
    assert plan.memory == (40, 20)


@pytest.mark.parametrize(
    ("count", "message"),
    [(0, "at least 1"), (4, "only 3 nodes"), (3, "has only 2 devices")],
)
def test_impossible_counts_are_refused(count: int, message: str) -> None:
    with pytest.raises(InputError, match=message):
        stages(chain([1.0] * 3, [1] * 3), cluster(2), count)


def test_unequal_devices_without_times_and_missing_links_are_refused() -> None:
    problem, on = chain([1.0] * 3, [1] * 3), cluster(2)
    slower = dataclasses.replace(on.devices[1], macs_per_second=0.5)
    with pytest.raises(InputError, match="'d0' and 'd1' differ in speed; the problem needs"):
        stages(problem, dataclasses.replace(on, devices=(on.devices[0], slower)), 2)
    with pytest.raises(InputError, match="no link between 'd0' and 'd1'"):
        stages(problem, dataclasses.replace(on, links={}), 2)


def test_the_checker_finds_each_kind_of_fault() -> None:
    problem, on = chain([1.0] * 3, [4] * 3, [5] * 3), cluster(2)
    plan = stages(problem, on, 2)
    check_plan(problem, on, plan)
    small = cluster(2, memory=3)
    changed = {
        "goes back": dataclasses.replace(plan, stage=plan.stage[::-1]),
        "not spread": dataclasses.replace(plan, stage=(0, 0, 0)),
        "bytes sent": dataclasses.replace(plan, sent={(0, 1): 5}),
        "compute": dataclasses.replace(plan, compute=(0.5, 2.0)),
        "receive": dataclasses.replace(plan, receive=(0.0, 0.0)),
        "memory": dataclasses.replace(plan, memory=(0, 0)),
        "below its bound": dataclasses.replace(plan, bound=1e9),
    }
    for message, wrong in changed.items():
        with pytest.raises(CheckError, match=message):
            check_plan(problem, on, wrong)
    with pytest.raises(CheckError, match="'d0' has 3"):
        check_plan(problem, small, plan)


def test_every_lists_convex_partitions_only() -> None:
    assert list(every(chain([1.0] * 3, [1] * 3), 2)) == [(0, 0, 1), (0, 1, 1)]


def test_items_that_take_no_time_and_do_not_fit() -> None:
    """Plans below any limit are found, and none of them fits: the search has to end."""
    items = tuple(Item(f"i{i}", 0.0) for i in range(4))
    values = tuple(Value(f"v{i}", i, (3,), 0) for i in range(3)) + (Value("v3", 3, (), 0, True),)
    problem = Problem(items, values, tuple(Weight(f"w{i}", (i,), 100) for i in range(3)))
    with pytest.raises(InputError, match="the fewest stages found that fit are 3"):
        stages(problem, cluster(4, 1.0, 1.0, 100), 2)
