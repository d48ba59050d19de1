"""Steps of ranks and what they send, without Ray."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
import pytest
from ray_programs import SPREAD, build, chain, spread, spread_case

from optc.models.errors import InputError
from optc.targets.cluster.program import CALLER, Array, Collective, Message, Part, Program, Rank
from optc.targets.cluster.steps import steps_of
from optc.targets.cluster.worker import Failure, Payload, Worker, load_parts


def workers(folder: Path, program: Program) -> list[Worker]:
    return [Worker(program, rank, load_parts(folder, program, rank)) for rank in range(len(program.ranks))]


def run_here(program: Program, workers: Sequence[Worker], feeds: Mapping[str, Array]) -> dict[str, Array]:
    """One request through all ranks (`workers`, one per rank) in this process; raises what a part raises."""
    schedule = steps_of(program)
    boxes: list[list[Payload]] = [[{name: feeds[name] for name in step.feeds}] for step in schedule.steps]
    outputs: dict[str, Array] = {}
    for index, step in enumerate(schedule.steps):
        answers = workers[step.rank].run(index, boxes[index])
        for answer in answers:
            if isinstance(answer, Failure):
                raise answer.error
        for (to, _), answer in zip(step.sends, answers, strict=False):
            boxes[to].append(answer)
        if index in schedule.outputs:
            outputs |= answers[-1]  # type: ignore[arg-type]
    return {n: feeds[n] if rank == CALLER else outputs[n] for n, rank in program.outputs.items()}


@pytest.mark.parametrize("name", SPREAD)
def test_collectives(name: str, tmp_path: Path) -> None:
    program = spread(tmp_path, SPREAD[name])
    assert program.collectives[0].kind == name
    inputs, wanted = spread_case(name)
    team = workers(tmp_path, program)
    for _ in range(2):
        found = run_here(program, team, inputs)
        for output, array in wanted.items():
            np.testing.assert_array_equal(found[output], array)
    assert [worker.times.micro_batches for worker in team] == [2, 2]


def test_ranks_that_pass_on_what_they_do_not_read(tmp_path: Path) -> None:
    """A message gathered before it is read, and an output that a collective leaves."""
    head = build(tmp_path, "head", "g (float[N,M] x) => (float[N,M] h) { h = Abs(x) }")
    tails = [
        build(tmp_path, op, f"g (float[N,M] g) => (float[N,M] p) {{ p = {op}(g) }}") for op in ("Neg", "Abs")
    ]
    program = Program(
        (Rank(0, 0, (head,)), Rank(1, 0, (tails[0],)), Rank(1, 1, (tails[1],))),
        (Message("h", 0, 1, 8), Message("h", 0, 2, 8)),
        (
            Collective("h", "g", (1, 2), (1, 2), 8, axis=1, have=((0, 4), (4, 8))),
            Collective("p", "y", (1, 2), (1, 2), 8, reduce=True, need_axis=0, need=((0, 1), (1, 3))),
        ),
        ("x",),
        {"y": 2},
    )
    x = np.arange(24, dtype=np.float32).reshape(3, 8) + 1
    found = run_here(program, workers(tmp_path, program), {"x": x})
    # Both ranks have the same h: g is it twice; rank 1 gives -g, rank 2 |g|, and the sum is zero.
    np.testing.assert_array_equal(found["y"], np.zeros((2, 16), np.float32))


def test_a_failure_takes_the_place_of_all_that_follows_until_the_next_request(tmp_path: Path) -> None:
    program = spread(tmp_path, SPREAD["all_reduce"])
    worker = workers(tmp_path, program)[0]
    mine = [index for index, step in enumerate(steps_of(program).steps) if step.rank == 0]
    wrong = np.zeros(3, np.float32)
    (sent,) = worker.run(mine[0], [{"x0": wrong}])
    assert isinstance(sent, Failure)
    assert str(sent.error).startswith("rank 0, part 'before0': input 'x0' takes shape [N, M]")
    assert worker.run(mine[1], [{(0, 1): np.zeros((3, 8), np.float32)}]) == [sent]
    (sent,) = worker.run(mine[0], [{"x0": np.zeros((3, 8), np.float32)}])
    assert not isinstance(sent, Failure)


def part(name: str, reads: str, gives: str) -> Part:
    return Part(name, tuple(reads), tuple(gives), 1.0)


def test_ranks_that_wait_for_each_other() -> None:
    ranks = (Rank(0, 0, (part("a", "v", "u"),)), Rank(0, 1, (part("b", "u", "v"),)))
    program = Program(ranks, (Message("u", 0, 1, 1), Message("v", 1, 0, 1)), (), (), {"v": 1})
    with pytest.raises(InputError, match=r"plan: ranks \[0, 1\] wait for each other in a circle"):
        steps_of(program)


def test_a_part_before_the_one_it_reads() -> None:
    ranks = (Rank(0, 0, (part("a", "v", "u"), part("b", "x", "v"))),)
    with pytest.raises(InputError, match=r"part 'a' of rank 0 reads \['v'\] before"):
        steps_of(Program(ranks, (), (), ("x",), {"u": 0}))


def test_a_tensor_from_nowhere() -> None:
    with pytest.raises(InputError, match="rank 0 reads 'v', which nobody gives it"):
        steps_of(Program((Rank(0, 0, (part("a", "v", "u"),)),), (), (), ("x",), {"u": 0}))


def test_another_parts_artifact(tmp_path: Path) -> None:
    program = chain(tmp_path)
    (tmp_path / "one").rename(tmp_path / "three")
    (tmp_path / "two").rename(tmp_path / "one")
    with pytest.raises(InputError, match="rank 0, part 'one': .*: another part's artifact: its inputs are h"):
        load_parts(tmp_path, program, 0)
    with pytest.raises(InputError, match="rank 1, part 'two': .*not an artifact"):
        load_parts(tmp_path, program, 1)
