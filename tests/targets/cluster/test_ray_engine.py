"""The engine on Ray: answers, their order, back-pressure, errors, actors that are killed."""

from __future__ import annotations

import json
import os
import signal
import time
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from ray_programs import SPREAD, chain, feeds, spread, spread_case

from optc.models.errors import CheckError, InputError, MissingError
from optc.targets.cluster import ray_channel
from optc.targets.cluster.ray_engine import RayEngine
from optc.targets.cluster.ray_replica import RankDied, Replica
from optc.targets.cluster.ray_start import enter

SLOW = "a = MatMul(x, x) b = MatMul(a, x) c = MatMul(b, x) d = MatMul(c, x) e = Min(d, x) h = Max(e, x)"
"""Seconds of work for a wide x, and h is x."""


@pytest.fixture(scope="module", autouse=True)
def ray_here() -> Iterator[None]:
    leave = enter(None, processes=4, memory=2**29)
    yield
    leave()


def values(answers: list[object]) -> list[float]:
    return [float(answer["y"].flat[0]) for answer in answers]  # type: ignore[index]


def test_requests_in_order_through_two_stages(tmp_path: Path) -> None:
    with RayEngine(tmp_path, chain(tmp_path)) as engine:
        assert values(list(engine.run(feeds(100)))) == [-float(n) for n in range(100)]
        wide = [{"x": np.full((n, 300_000), n, np.float32)} for n in (1, 3, 2)]
        for given, answer in zip(wide, engine.run(wide), strict=True):
            np.testing.assert_array_equal(answer["y"], -given["x"])  # type: ignore[index]
        metrics = engine.metrics()
        assert [(m.rank, m.stage, m.micro_batches) for m in metrics.ranks] == [(0, 0, 103), (1, 1, 103)]
        assert all(m.busy > 0 and m.waiting > 0 for m in metrics.ranks)
        assert metrics.answered == (103,) and metrics.restarts == 0
        assert list(engine.run([])) == []


def test_replicas_share_the_requests(tmp_path: Path) -> None:
    with RayEngine(tmp_path, chain(tmp_path), replicas=2) as engine:
        assert values(list(engine.run(feeds(60)))) == [-float(n) for n in range(60)]
        answered = engine.metrics().answered
        assert sum(answered) == 60 and min(answered) > 0


def test_through_channels_of_rays_own(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Those that the caller makes, as it is between machines."""
    monkeypatch.setattr(ray_channel, "ORDERED", False)
    with RayEngine(tmp_path, chain(tmp_path)) as engine:
        assert values(list(engine.run(feeds(30)))) == [-float(n) for n in range(30)]


@pytest.mark.parametrize("name", SPREAD)
def test_collectives_between_processes(name: str, tmp_path: Path) -> None:
    inputs, wanted = spread_case(name)
    with RayEngine(tmp_path, spread(tmp_path, SPREAD[name])) as engine:
        for answer in engine.run([inputs] * 5):
            assert isinstance(answer, dict)
            assert answer.keys() == wanted.keys()
            for output, array in wanted.items():
                np.testing.assert_array_equal(answer[output], array)


def test_requests_are_drawn_when_there_is_room_and_an_abandoned_run_leaves_nothing(tmp_path: Path) -> None:
    drawn = 0

    def requests() -> Iterator[dict[str, np.ndarray]]:
        nonlocal drawn
        for given in feeds(1000, (2, 400_000)):
            drawn += 1
            yield given

    with RayEngine(tmp_path, chain(tmp_path), in_flight=2) as engine:
        answers = engine.run(requests())
        for number in range(10):
            assert values([next(answers)]) == [-float(number)]
            assert drawn <= number + 1 + 2
            time.sleep(0.02)  # so that what is in flight is done before the next is asked for
        answers.close()  # type: ignore[attr-defined]
        assert drawn <= 12
        assert values(list(engine.run([{"x": np.full((1, 1), 5, np.float32)}]))) == [-5.0]


def test_one_request_that_is_wrong_among_others(tmp_path: Path) -> None:
    requests = feeds(8)
    requests[2] = {"x": np.zeros(4, np.float32)}
    requests[4] = {"z": requests[4]["x"]}
    requests[6] = {**requests[6], "z": requests[6]["x"]}
    with RayEngine(tmp_path, chain(tmp_path)) as engine:
        answers = list(engine.run(requests))
    wrong = [answer for answer in answers if isinstance(answer, InputError)]
    assert [str(error) for error in wrong] == [
        "request 2: rank 0, part 'one': input 'x' takes shape [N, M], the array has [4] (where N = 4)",
        "request 4: no array for the input 'x'; the model takes x",
        "request 6: the model has no input 'z'; it takes x",
    ]
    assert [n for n, a in enumerate(answers) if isinstance(a, InputError)] == [2, 4, 6]
    assert values([a for a in answers if isinstance(a, dict)]) == [0.0, -1.0, -3.0, -5.0, -7.0]


@pytest.mark.parametrize("rank", [0, 1])
def test_an_actor_that_is_killed_in_the_middle(rank: int, tmp_path: Path) -> None:
    with RayEngine(tmp_path, chain(tmp_path)) as engine:
        killed = engine.metrics().ranks[rank].process

        def requests() -> Iterator[dict[str, np.ndarray]]:
            for number, given in enumerate(feeds(40)):
                if number == 20:
                    os.kill(killed, signal.SIGKILL)
                yield given

        assert values(list(engine.run(requests()))) == [-float(n) for n in range(40)]
        metrics = engine.metrics()
        assert metrics.restarts == 1 and metrics.answered == (40,)
        assert metrics.ranks[rank].process != killed
        os.kill(metrics.ranks[rank].process, signal.SIGKILL)
        assert values(list(engine.run(feeds(3)))) == [0.0, -1.0, -2.0]
        assert engine.metrics().restarts == 2


def test_a_rank_that_dies_again_while_it_loads(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    load, found = Replica._await, []
    deaths = 1

    def dying(self: Replica, rank: int, loading: object) -> None:
        nonlocal deaths
        load(self, rank, loading)
        if deaths:
            deaths -= 1
            raise RankDied(f"rank {rank}: its process died while it loaded")

    with RayEngine(tmp_path, chain(tmp_path)) as engine:
        monkeypatch.setattr(Replica, "_await", dying)
        for number, answer in enumerate(engine.run(feeds(30))):
            if number == 3:
                os.kill(engine.metrics().ranks[1].process, signal.SIGKILL)
            found.append(answer)
    assert values(found) == [-float(n) for n in range(30)] and not deaths


def test_a_rank_that_dies_at_the_start(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def dying(self: Replica, rank: int, loading: object) -> None:
        raise RankDied(f"rank {rank}: its process died while it loaded")

    monkeypatch.setattr(Replica, "_await", dying)
    with pytest.raises(CheckError, match="the ranks do not start: rank 0: its process died"):
        RayEngine(tmp_path, chain(tmp_path))


def test_a_rank_that_cannot_be_loaded_again(tmp_path: Path) -> None:
    """The run ends with the reason, and so does the next, until the rank is back."""
    with RayEngine(tmp_path, chain(tmp_path)) as engine:
        (tmp_path / "one").rename(tmp_path / "away")
        os.kill(engine.metrics().ranks[0].process, signal.SIGKILL)
        for _ in range(2):
            with pytest.raises(InputError, match="rank 0, part 'one'"):
                list(engine.run(feeds(3)))
        (tmp_path / "away").rename(tmp_path / "one")
        assert values(list(engine.run(feeds(3)))) == [0.0, -1.0, -2.0]


@pytest.mark.slow
def test_a_request_at_which_an_actor_dies_every_time(tmp_path: Path) -> None:
    from optc.targets.cluster.ray_replica import Answer, Job, Replica

    program = chain(tmp_path, first=SLOW)
    replica = Replica(3, tmp_path, program, 3, (0, 0))
    replica.start()
    answers: list[tuple[int, Answer]] = []
    wide, small = np.zeros((3000, 3000), np.float32), np.ones((2, 2), np.float32)
    for index, array in enumerate((wide, small, small)):
        replica.submit(Job(index, {"x": array}))
    dead: set[int] = set()
    while not answers:
        if (process := replica.processes[0]) not in dead:
            os.kill(process, signal.SIGKILL)
            dead.add(process)
        answers += [(job.index, answer) for job, answer in replica.poll()]
    assert len(dead) == 3
    index, error = answers[0]
    assert index == 0 and isinstance(error, CheckError)
    assert str(error) == "request 0: rank 0 of replica 3 died, as in 2 tries before"
    while len(answers) < 3:
        answers += [(job.index, answer) for job, answer in replica.poll()]
    assert [index for index, _ in answers] == [0, 1, 2]
    assert values([answer for _, answer in answers[1:]]) == [-1.0, -1.0]
    replica.close()


def test_what_cannot_be_run_is_refused_before_anything_starts(tmp_path: Path) -> None:
    program = chain(tmp_path)
    with pytest.raises(InputError, match="at least 1 each"):
        RayEngine(tmp_path, program, replicas=0)
    with (tmp_path / "two" / "model.onnx").open("ab") as file:
        file.write(b"x")
    with pytest.raises(InputError, match=r"rank 1, part 'two': .*model.onnx is damaged"):
        RayEngine(tmp_path, program)


@pytest.mark.parametrize(
    ("manifest", "text"),
    [
        ({"target": "cuda{arch=[sm_80]}"}, "the program needs 1 GPUs, Ray has 0 here"),
        (
            {"target": "cpu", "program": {"kind": "vm", "machine": "abacus", "mcpu": "generic"}},
            "rank 1, part 'two': the artifact was built for abacus",
        ),
    ],
)
def test_a_part_that_no_process_here_can_load(manifest: dict[str, object], text: str, tmp_path: Path) -> None:
    program = chain(tmp_path)
    file = tmp_path / "two" / "manifest.json"
    file.write_text(json.dumps(json.loads(file.read_text()) | manifest))
    with pytest.raises(MissingError, match=text):
        RayEngine(tmp_path, program)
