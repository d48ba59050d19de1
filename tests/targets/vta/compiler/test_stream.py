"""The stream orders every conflict between modules; the checker is the judge."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from optc.targets.vta.check import CheckFailure, check
from optc.targets.vta.compiler import stream as module
from optc.targets.vta.compiler.stream import Stream
from optc.targets.vta.config import Config, Memory
from optc.targets.vta.isa import Alu, AluOp, Gemm, Instruction, Load, Store, encode_uops
from optc.targets.vta.program import Image
from optc.targets.vta.timing import PYNQ

CONFIG = Config()
INP, OUT = 0x100, 0x180
"""DRAM elements that are read; those that are stored, and read again."""
PLACES = 6
UOPS = 0x8000
"""Byte address of one micro-op for each (dst, src, wgt)."""


def micro_ops() -> Image:
    grid = np.indices((PLACES,) * 3).reshape(3, -1)
    return Image([(UOPS, encode_uops(*grid, CONFIG).view(np.uint8))])


@st.composite
def programs(draw: Any) -> list[tuple[Any, ...]]:
    place = st.integers(0, PLACES - 1)
    step = st.one_of(
        st.tuples(st.just("inp"), place, place, st.integers(1, 2), st.booleans()),
        st.tuples(st.just("wgt"), place, place),
        st.tuples(st.just("gemm"), place, place, place),
        st.tuples(st.just("store"), place, place, st.integers(1, 2)),
    )
    return draw(st.lists(step, min_size=1, max_size=40))


def emitted(steps: list[tuple[Any, ...]]) -> list[Instruction]:
    """Instructions for the steps, after everything was written once."""
    stream = Stream(CONFIG, PYNQ, 0x400)
    total = PLACES**3
    stream.compute(Load(Memory.UOP, 0, UOPS // 4, 1, total, total), [])
    stream.load(Load(Memory.INP, 0, INP, 1, PLACES + 1, PLACES + 1))
    stream.load(Load(Memory.WGT, 0, 0x100, 1, PLACES, PLACES))
    stream.compute(Load(Memory.ACC, 0, 0x200, 1, PLACES + 1, PLACES + 1), [(0, PLACES + 1)])
    stream.compute(Alu(AluOp.MAX, True, 0, 0, 1, 1, PLACES + 1, 0, 1, 0, 1), [(0, PLACES + 1)])
    for stream.owner, (kind, *values) in enumerate(steps):
        if kind == "inp":
            at, dram, count, stored = values
            stream.load(Load(Memory.INP, at, (OUT if stored else INP) + dram, 1, count, count))
        elif kind == "wgt":
            stream.load(Load(Memory.WGT, values[0], 0x100 + values[1], 1, 1, 1))
        elif kind == "store":
            at, dram, count = values
            stream.store(Store(at, OUT + dram, count, 1, 2))
        else:
            dst, src, wgt = values
            at = (dst * PLACES + src) * PLACES + wgt
            gemm = Gemm(False, at, at + 1, 1, 1, 0, 0, 0, 0, 0, 0)
            reads = [(Memory.INP, (src, src + 1)), (Memory.WGT, (wgt, wgt + 1))]
            stream.compute(gemm, [(dst, dst + 1)], reads)
    return stream.finish()


@settings(max_examples=250, deadline=None)
@given(steps=programs(), long=st.sampled_from([0, 64]))
def test_every_conflict_is_ordered(steps: list[tuple[Any, ...]], long: int) -> None:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(module, "_LONG", long)
        check(emitted(steps), CONFIG, micro_ops())


CONFLICTS: dict[str, list[tuple[Any, ...]]] = {
    "read after load": [("inp", 2, 1, 1, False), ("gemm", 0, 2, 0)],
    "weights after load": [("wgt", 3, 1), ("gemm", 0, 0, 3)],
    "load after read": [("gemm", 0, 2, 0), ("inp", 2, 1, 1, False)],
    "store after compute": [("gemm", 1, 0, 0), ("store", 1, 0, 1)],
    "compute after store": [("store", 1, 0, 1), ("gemm", 1, 0, 0)],
    "load after store": [("store", 1, 3, 1), ("inp", 2, 3, 1, True)],
    "store after load": [("inp", 2, 3, 1, True), ("store", 1, 3, 1)],
}


@pytest.mark.parametrize("between", range(1, 9))
def test_a_nop_in_front_does_not_vouch_for_what_follows(
    between: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A LOAD waits for the STORE by it; the next LOAD still has to wait for the GEMM behind it."""
    monkeypatch.setattr(module, "_LONG", 0)
    gemms = [("gemm", 0, 2, 0)] * between
    steps = [("store", 1, 3, 1), *gemms, ("inp", 3, 3, 1, True), ("inp", 2, 1, 1, False)]
    check(emitted(steps), CONFIG, micro_ops())


@pytest.mark.parametrize("name", list(CONFLICTS))
def test_a_conflict_without_its_edges_is_refused(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """The checker would tell: with the last edges left out it does."""
    steps = CONFLICTS[name]
    check(emitted(steps), CONFIG, micro_ops())
    whole = module.assign

    def without(instructions: Any, modules: Any, edges: Any) -> Any:
        finish = len(instructions) - 1
        return whole(instructions, modules, [e for e in edges if e[1] == finish or e[1] <= 4])

    monkeypatch.setattr(module, "assign", without)
    with pytest.raises(CheckFailure):
        check(emitted(steps), CONFIG, micro_ops())


def test_what_is_ordered_already_costs_no_token() -> None:
    """The second GEMM of the same data waits for nothing."""
    one = emitted([("inp", 2, 1, 1, False), ("gemm", 0, 2, 0)])
    two = emitted([("inp", 2, 1, 1, False), ("gemm", 0, 2, 0), ("gemm", 1, 2, 0)])
    assert sum(i.pop_prev for i in one) == sum(i.pop_prev for i in two)


def test_a_load_waits_through_the_compute_module() -> None:
    """Between a STORE and a LOAD of what it wrote a NOP of the compute module passes the tokens on."""
    instructions = emitted([("store", 1, 3, 1), ("inp", 2, 3, 1, True)])
    nops = [i for i in instructions if isinstance(i, Load) and not i.x_size]
    assert len(nops) == 1 and nops[0].pop_next and nops[0].push_prev


def test_a_long_instruction_does_not_hold_a_token_back() -> None:
    """The NOP that passes it on stands in front."""
    stream = Stream(CONFIG, PYNQ, 0x400)
    long = Alu(AluOp.MAX, True, 0, 0, 1, 1, 400, 0, 1, 0, 1)
    for base in (0, 400):
        stream.compute(long, [(base, base + 400)])
    stream.store(Store(0, OUT, 1, 8, 8))
    stream.owner = 1
    for base in (800, 1200):
        stream.compute(long, [(base, base + 400)])
    stream.load(Load(Memory.INP, 0, OUT, 1, 8, 8))
    instructions = stream.finish()
    kinds = [type(i).__name__ for i in instructions]
    nop = next(n for n, i in enumerate(instructions) if isinstance(i, Load) and not i.x_size)
    assert instructions[nop].pop_next and instructions[nop].push_prev
    assert kinds[nop + 1] == "Alu" and not instructions[nop + 1].push_prev
    assert len(instructions) == len(stream.owners) == len(stream.modules)
