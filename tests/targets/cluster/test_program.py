from __future__ import annotations

import json

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from optc.models.errors import InputError
from optc.targets.cluster.program import Collective, Message, Part, Program, Rank
from optc.targets.cluster.program_json import program_json, read_program


def ranges(cuts: list[int]) -> tuple[tuple[int, int], ...]:
    return tuple(zip(cuts[:-1], cuts[1:], strict=True))


def collective(**more: object) -> Collective:
    return Collective("a", "b", (0, 1), (0, 1), 240, **more)  # type: ignore[arg-type]


WHOLE = np.arange(60, dtype=np.float32).reshape(3, 4, 5)
CASES = {
    "all_reduce": (collective(reduce=True), [WHOLE, 2 * WHOLE], [3 * WHOLE, 3 * WHOLE]),
    "reduce_scatter": (
        collective(reduce=True, need_axis=1, need=ranges([0, 1, 4])),
        [WHOLE, 2 * WHOLE],
        [3 * WHOLE[:, :1], 3 * WHOLE[:, 1:]],
    ),
    "all_gather": (
        collective(axis=2, have=ranges([0, 2, 5])),
        [WHOLE[..., :2], WHOLE[..., 2:]],
        [WHOLE, WHOLE],
    ),
    "all_to_all": (
        collective(axis=2, have=ranges([0, 2, 5]), need_axis=0, need=ranges([0, 1, 3])),
        [WHOLE[..., :2], WHOLE[..., 2:]],
        [WHOLE[:1], WHOLE[1:]],
    ),
    "halo": (
        collective(axis=1, have=ranges([0, 2, 4]), need_axis=1, need=((0, 3), (1, 4))),
        [WHOLE[:, :2], WHOLE[:, 2:]],
        [WHOLE[:, :3], WHOLE[:, 1:]],
    ),
}


@pytest.mark.parametrize("kind", CASES)
def test_what_each_rank_gets(kind: str) -> None:
    found, sources, results = CASES[kind]
    assert found.kind == kind
    for to, result in enumerate(results):
        pieces = [found.piece(i, to, source) for i, source in enumerate(sources)]
        np.testing.assert_equal(found.join(pieces), result)
        sizes = [0 if piece is None else piece.nbytes for piece in pieces]
        assert [found.piece_bytes(i, to) for i in range(2)] == sizes


@given(st.integers(2, 5), st.integers(1, 9), st.data())
def test_halos_of_any_ranges(count: int, blocks: int, data: st.DataObject) -> None:
    size = count * blocks
    array = np.arange(size)
    have = ranges([t * blocks for t in range(count + 1)])
    pairs = st.tuples(st.integers(0, size - 1), st.integers(1, size))
    need = tuple((min(a, b), max(a, b) + (a == b)) for a, b in (data.draw(pairs) for _ in range(count)))
    found = Collective("a", "b", tuple(range(count)), tuple(range(count)), size, False, 0, have, 0, need)
    for to, (start, stop) in enumerate(need):
        pieces = [found.piece(i, to, array[a:b]) for i, (a, b) in enumerate(have)]
        np.testing.assert_equal(found.join(pieces), array[start:stop])


def two_ranks() -> Program:
    first = Rank(0, 0, (Part("rank0", ("x",), ("h",), 1.0),))
    second = Rank(1, 0, (Part("rank1", ("h",), ("y",), 2.0),))
    return Program((first, second), (Message("h", 0, 1, 8),), (), ("x",), {"y": 1})


def test_json_and_back() -> None:
    program = two_ranks()
    assert read_program(json.loads(json.dumps(program_json(program)))) == program
    shared = CASES["halo"][0]
    first = Rank(0, 0, (Part("p", ("x",), ("a", "y"), 0.0), Part("q", ("b",), ("z",), 0.0)))
    second = Rank(0, 1, (Part("r", ("x",), ("a",), 0.0),))
    program = Program((first, second), (), (shared,), ("x",), {"y": 0})
    assert read_program(json.loads(json.dumps(program_json(program)))) == program


def test_a_part_that_waits_for_itself() -> None:
    ranks = (
        Rank(0, 0, (Part("rank0", ("y",), ("h",), 0.0),)),
        Rank(1, 0, (Part("rank1", ("h",), ("y",), 0.0),)),
    )
    program = Program(ranks, (Message("h", 0, 1, 8), Message("y", 1, 0, 8)), (), (), {"y": 1})
    with pytest.raises(InputError, match="part 'rank0' waits for what only comes after it"):
        _ = program.order


@pytest.mark.parametrize(
    ("damage", "message"),
    [
        (lambda data: data.pop("messages"), "lacks 'messages'"),
        (lambda data: data["messages"].clear(), "reads 'h', which nobody gives it"),
        (lambda data: data["messages"][0].update(source=7), "there is no rank 7"),
        (lambda data: data["ranks"].reverse(), "rank 0 is in the wrong place"),
        (lambda data: data["outputs"].update(y=0), "rank 0 does not make the output 'y'"),
        (lambda data: data.update(ranks=[]), "is damaged"),
        (lambda data: data.update(ranks=3), "is damaged"),
    ],
)
def test_damaged_programs(damage: object, message: str) -> None:
    data = program_json(two_ranks())
    damage(data)  # type: ignore[operator]
    with pytest.raises(InputError, match=message):
        read_program(data)


def test_sums_of_scalars_are_arrays_of_their_own() -> None:
    pieces = [np.array(1.5, np.float32), np.array(2.0, np.float32)]
    for piece in pieces:
        piece.flags.writeable = False
    total = Collective("h", "g", (0, 1), (0, 1), 4, reduce=True).join(pieces)
    assert isinstance(total, np.ndarray) and total.shape == () and total == 3.5
    assert [float(piece) for piece in pieces] == [1.5, 2.0]
