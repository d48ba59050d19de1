from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from optc.models.errors import InputError
from optc.passes.partition.cluster import Cluster, Device, Link
from optc.targets.cluster.program import Message, Part, Program, Rank
from optc.targets.cluster.schedule import Schedule, predict
from optc.targets.cluster.simulate import Caller, simulate


def pipeline(times: list[float], sizes: list[int] | None = None) -> Program:
    """Stage s sends sizes[s] bytes to the next one."""
    sizes = sizes or [1] * len(times)
    names = ["x", *(f"v{i}" for i in range(len(times)))]
    ranks = [Rank(i, 0, (Part(f"rank{i}", (names[i],), (names[i + 1],), t),)) for i, t in enumerate(times)]
    messages = [Message(f"v{i}", i, i + 1, sizes[i]) for i in range(len(times) - 1)]
    return Program(tuple(ranks), tuple(messages), (), ("x",), {names[-1]: len(times) - 1})


def cluster(count: int, link: Link) -> Cluster:
    devices = tuple(Device(f"d{i}", 1.0, 1.0, 1) for i in range(count))
    pairs = [(a.name, b.name) for i, a in enumerate(devices) for b in devices[i + 1 :]]
    return Cluster("test", devices, dict.fromkeys(pairs, link))


FREE = Link(0.0, float("inf"))


def test_equal_stages_have_gpipes_bubble() -> None:
    found = predict(Schedule("gpipe", 8), [2.0] * 4, [10] * 4, [3] * 4)
    assert found.bubble == pytest.approx(3 / 11)
    assert found.seconds == 22.0 and found.latency == 8.0 and found.throughput == 0.5
    assert found.memory == (34, 34, 34, 34)


def test_1f1b_holds_fewer() -> None:
    found = predict(Schedule("1f1b", 8), [2.0] * 4, [10] * 4, [3] * 4)
    assert found.memory == (22, 19, 16, 13)
    assert Schedule("1f1b", 8).in_flight(4) == 4 and Schedule("1f1b", 2).in_flight(4) == 2
    assert Schedule("gpipe", 8).in_flight(4) == 8


def test_no_micro_batches() -> None:
    with pytest.raises(InputError, match="there must be at least 1, not 0"):
        Schedule("gpipe", 0)


@given(
    st.lists(st.integers(1, 9), min_size=1, max_size=6),
    st.integers(1, 12),
    st.sampled_from(["gpipe", "1f1b"]),
)
def test_the_simulation_takes_what_is_predicted(times: list[int], count: int, kind: str) -> None:
    schedule = Schedule(kind, count)  # type: ignore[arg-type]
    seconds = [float(t) for t in times]
    found = simulate(pipeline(seconds), cluster(len(times), FREE), count, schedule.in_flight(len(times)))
    assert found.seconds == predict(schedule, seconds, [0] * len(times), [0] * len(times)).seconds


def test_a_stage_fetches_before_it_computes() -> None:
    found = simulate(pipeline([1.0, 1.0], [10, 0]), cluster(2, Link(0.5, 10.0)), 3, 3, record=True)
    spans = {(s.rank, s.request): (s.start, s.compute, s.stop) for s in found.spans}
    assert spans[1, 0] == (1.0, 2.5, 3.5) and spans[1, 1] == (3.5, 5.0, 6.0)
    assert found.finished == [3.5, 6.0, 8.5] and found.throughput == pytest.approx(0.4)


def test_one_in_flight_is_no_pipeline() -> None:
    found = simulate(pipeline([1.0, 1.0]), cluster(2, FREE), 4, 1)
    assert found.finished == [2.0, 4.0, 6.0, 8.0]


def test_replicas_share_the_requests() -> None:
    found = simulate(pipeline([1.0, 1.0]), cluster(6, FREE), 30, 2, replicas=3)
    assert found.seconds == 11.0


def test_replicas_that_go_in_step_are_as_many_times_as_fast() -> None:
    rates = [simulate(pipeline([1.0]), cluster(1, FREE), 8 * n, 1, replicas=n).throughput for n in (1, 50)]
    assert rates == [1.0, 50.0]
    assert simulate(pipeline([2.0]), cluster(1, FREE), 1, 1).throughput == 0.5


def test_the_caller_does_one_thing_at_a_time() -> None:
    found = simulate(pipeline([1.0]), cluster(1, FREE), 300, 4, caller=Caller(2.0, 1.0))
    assert found.throughput == pytest.approx(1 / 3, rel=0.02)


@given(
    st.lists(st.integers(1, 9), min_size=1, max_size=4),
    st.integers(1, 3),
    st.integers(1, 5),
    st.integers(1, 20),
)
def test_nobody_does_two_things_at_once(times: list[int], replicas: int, window: int, count: int) -> None:
    program = pipeline([float(t) for t in times])
    found = simulate(program, cluster(len(times) * replicas, FREE), count, window, replicas, record=True)
    assert len(found.spans) == count * len(times)
    lanes: dict[tuple[int, int], list[tuple[float, float]]] = {}
    for span in found.spans:
        lanes.setdefault((span.replica, span.rank), []).append((span.start, span.stop))
    for lane in lanes.values():
        lane.sort()
        assert all(a[1] <= b[0] for a, b in zip(lane, lane[1:], strict=False))
    done = {(s.request, s.rank): s for s in found.spans}
    for (request, rank), span in done.items():
        assert rank == 0 or done[request, rank - 1].stop <= span.start
