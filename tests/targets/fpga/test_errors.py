"""The core's error register: each of its bits, in a small machine, and what must not raise it."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from machines import MEMORY, SMALL, launch, needs_rtl

from optc.models.errors import InputError
from optc.targets.fpga.link import ERRORS
from optc.targets.fpga.rtlsim import RtlSim
from optc.targets.vta.config import Memory
from optc.targets.vta.device import PAGE
from optc.targets.vta.isa import Alu, AluOp, Finish, Gemm, Instruction, Load, Store

pytestmark = needs_rtl
UNDEFINED, BEYOND, TOKENS, STUCK, ADDRESS, LEFT = ERRORS
END = Finish()
INP, WGT, UOP, ACC = Memory.INP, Memory.WGT, Memory.UOP, Memory.ACC
DEPTH = {memory: SMALL.depth(memory) for memory in Memory}
"""INP, ACC and UOP 64, WGT 16."""
FAR = 0x8000
"""An element of any memory, in the memory of DRAM, which is zero there."""


def load(memory: Memory, sram: int = 0, y: int = 1, x: int = 1, **more: int) -> Load:
    return Load(memory, sram, FAR, y, x, x, **more)


def nest(begin: int = 0, end: int = 1, outer: int = 1, inner: int = 1, **factors: int) -> dict[str, int]:
    names = ("dst_out", "dst_in", "src_out", "src_in")
    loops = {"uop_begin": begin, "uop_end": end, "iter_out": outer, "iter_in": inner}
    return {**loops, **dict.fromkeys(names, 0), **factors}


def gemm(reset: bool = True, **factors: int) -> Gemm:
    return Gemm(reset=reset, **{"wgt_out": 0, "wgt_in": 0, **nest(**factors)})


def alu(op: AluOp = AluOp.ADD, imm: int = 0, tensor: bool = False, **factors: int) -> Alu:
    return Alu(op=op, use_imm=not tensor, imm=imm, **nest(**factors))


def then_end(*program: Instruction) -> list[Instruction]:
    """A micro-op of zeros, `program`, and what waits for the last instruction, whatever its module."""
    last = program[-1]
    flag = {"push_next": True} if isinstance(last, Load) and last.memory in (INP, WGT) else {}
    flag = {"push_prev": True} if isinstance(last, Store) else flag
    pops = {"pop_prev": "push_next" in flag, "pop_next": "push_prev" in flag}
    return [load(UOP), *program[:-1], replace(last, **flag), Finish(**pops)]


def stored(sram: int, x: int, address: int = FAR) -> list[Instruction]:
    """A STORE of `x` elements from `sram` on, all of which an ALU instruction made."""
    fill = replace(alu(outer=DEPTH[ACC], dst_out=1, src_out=1), push_next=True)
    return [load(ACC, x=DEPTH[ACC]), fill, Store(sram, address, 1, x, x, pop_prev=True)]


WRONG: dict[str, tuple[str, list[Instruction]]] = {
    "load of out": (UNDEFINED, [load(Memory.OUT), END]),
    "load of 8-bit acc": (UNDEFINED, [load(Memory.ACC_8BIT), END]),
    "store of acc": (UNDEFINED, [Store(0, FAR, 1, 1, 1, ACC), END]),
    "multiply": (UNDEFINED, then_end(alu(AluOp.MUL))),
    "padded wgt": (UNDEFINED, then_end(load(WGT, x_pad_1=1))),
    "padded uop": (UNDEFINED, then_end(load(UOP, y_pad_0=1))),
    "rows of uop": (UNDEFINED, then_end(load(UOP, y=2))),
    "padded store": (UNDEFINED, [*stored(0, 1)[:-1], Store(0, FAR, 1, 1, 1, x_pad_0=1, pop_prev=True), END]),
    "padding alone": (UNDEFINED, then_end(load(INP, y=0, x=0, y_pad_0=1))),
    "no rows": (UNDEFINED, then_end(load(INP, y=0))),
    "load before load": (UNDEFINED, [load(INP, pop_prev=True), END]),
    "token before load": (UNDEFINED, [load(WGT, push_prev=True), END]),
    "store after store": (UNDEFINED, [Store(0, FAR, 0, 0, 0, pop_next=True), END]),
    "token after store": (UNDEFINED, [Store(0, FAR, 0, 0, 0, push_next=True), END]),
    "finish before the end": (UNDEFINED, [END, load(ACC)]),
    "no finish": (UNDEFINED, [load(ACC)]),
    "inp beyond": (BEYOND, then_end(load(INP, DEPTH[INP] - 1, 1, 2))),
    "padding beyond": (BEYOND, then_end(load(INP, DEPTH[INP] - 3, x_pad_1=3))),
    "wgt beyond": (BEYOND, then_end(load(WGT, DEPTH[WGT] - 1, 2))),
    "uop beyond": (BEYOND, then_end(load(UOP, DEPTH[UOP] - 1, 1, 2))),
    "acc beyond": (BEYOND, then_end(load(ACC, DEPTH[ACC]))),
    "16 bits passed": (BEYOND, then_end(load(INP, 2**16 - 1, 1, 2))),
    "store beyond": (BEYOND, then_end(*stored(DEPTH[ACC], 1))),
    "store's end beyond": (BEYOND, then_end(*stored(DEPTH[ACC] - 1, 2))),
    "no outer loop": (BEYOND, then_end(gemm(outer=0))),
    "no inner loop": (BEYOND, then_end(alu(inner=0))),
    "no micro-op": (BEYOND, then_end(gemm(begin=1, end=1))),
    "micro-op beyond": (BEYOND, then_end(gemm(begin=DEPTH[UOP] - 1, end=DEPTH[UOP] + 1))),
    "dst beyond": (BEYOND, then_end(gemm(outer=3, dst_out=32))),
    "src beyond": (BEYOND, then_end(gemm(False, inner=3, src_in=32))),
    "src of acc beyond": (BEYOND, then_end(alu(tensor=True, inner=3, src_in=32))),
    "wgt index beyond": (BEYOND, then_end(gemm(False, inner=3, wgt_in=8))),
    "shift right": (BEYOND, then_end(alu(AluOp.SHR, 16))),
    "shift left": (BEYOND, then_end(alu(AluOp.SHR, -17))),
    "no token": (STUCK, [Finish(pop_next=True)]),
    "load waits": (STUCK, [load(INP, pop_next=True, push_next=True), Finish(pop_prev=True)]),
    "load from afar": (ADDRESS, then_end(Load(INP, 0, MEMORY // DEPTH[INP] * 16, 1, 1, 1))),
    "uop from afar": (ADDRESS, then_end(Load(UOP, 0, MEMORY // 4, 1, 1, 1))),
    "store afar": (ADDRESS, then_end(*stored(0, 4, MEMORY // 4 - 1))),
    "token left": (LEFT, [load(ACC, push_prev=True), END]),
    "load left": (LEFT, [load(INP, x=64, y_pad_0=0), END]),
    "store left": (LEFT, [load(UOP), *stored(0, 64), END]),
}


@pytest.mark.parametrize("name", WRONG)
def test_what_is_wrong_stops_the_core(name: str) -> None:
    text, program = WRONG[name]
    with pytest.raises(InputError) as error:
        launch(program)
    assert str(error.value) == f"the core stopped: {text}"


@pytest.mark.parametrize("opcode", [5, 6, 7])
def test_opcodes_that_are_none(opcode: int) -> None:
    device = RtlSim(SMALL, MEMORY)
    device.write(PAGE, np.array([opcode] + 15 * [0] + [3] + 15 * [0], np.uint8))
    with pytest.raises(InputError, match=UNDEFINED):
        device.run(PAGE, 2)


RIGHT: dict[str, list[Instruction]] = {
    "nothing": [END],
    "load without rows or columns": then_end(load(INP, y=0, x=0)),
    "to the end of inp": then_end(load(INP, DEPTH[INP] - 9, y_pad_0=1, y_pad_1=1, x_pad_0=1, x_pad_1=1)),
    "to the end of wgt": then_end(load(WGT, DEPTH[WGT] - 2, 2)),
    "to the end of uop": then_end(load(UOP, DEPTH[UOP] - 3, 1, 3)),
    "to the end of acc": then_end(load(ACC, DEPTH[ACC] - 2, 2)),
    "to the end of out": then_end(*stored(DEPTH[ACC] - 2, 2)),
    "last indices": then_end(gemm(False, inner=2, dst_in=63, src_in=63, wgt_in=15)),
    "last micro-op": then_end(load(UOP, 63), gemm(begin=63, end=64)),
    "last words of memory": then_end(*stored(0, 2, MEMORY // 4 - 2)),
    "more steps than the watchdog waits": then_end(gemm(outer=1100, inner=1000)),
}


@pytest.mark.parametrize("name", RIGHT)
def test_what_is_right_does_not(name: str) -> None:
    assert launch(RIGHT[name]) > 0
