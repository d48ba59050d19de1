"""A whole board of a small machine: programs over its serial line, also after one that failed."""

from __future__ import annotations

from dataclasses import replace
from functools import cache
from pathlib import Path

import numpy as np
import pytest
from machines import SMALL, needs_rtl

from optc.models.errors import InputError
from optc.targets.fpga.boards import board
from optc.targets.fpga.boardsim import SimulatedLink, rtl_library
from optc.targets.fpga.design import Design
from optc.targets.fpga.link import ERRORS, LinkedBoard
from optc.targets.vta.config import Config, Memory
from optc.targets.vta.device import PAGE, Device
from optc.targets.vta.isa import Alu, AluOp, Finish, Gemm, Instruction, Load, Store, encode
from optc.targets.vta.sim import Fsim

pytestmark = needs_rtl
INPUT, OUTPUT = 0x2000, 0x2800


@cache
def library() -> Path:
    return rtl_library(Design(replace(board("ulx3s-85f"), config=SMALL, banks=1)))


def machine(config: Config = SMALL) -> LinkedBoard:
    return LinkedBoard(config, SimulatedLink(library()))


def add(amount: int) -> list[Instruction]:
    """OUTPUT = the low bytes of the element of ACC at INPUT, and `amount`."""
    return [
        Load(Memory.UOP, 0, 0x2400 // 4, 1, 1, 1),
        Load(Memory.ACC, 0, INPUT // 16, 1, 1, 1),
        Alu(AluOp.ADD, True, amount, 0, 1, 1, 1, 0, 0, 0, 0, push_next=True),
        Store(0, OUTPUT // 4 + 1, 1, 1, 1, pop_prev=True, push_prev=True),
        Finish(pop_next=True),
    ]


def left(device: Device, program: list[Instruction]) -> bytes:
    """The bytes around OUTPUT after a run."""
    device.write(INPUT, np.arange(16, dtype=np.int32).view(np.uint8)[:16])
    device.write(OUTPUT, np.full(16, 9, np.uint8))
    device.write(PAGE, encode(program, SMALL))
    device.run(PAGE, len(program))
    return device.read(OUTPUT - 4, 20).tobytes()


def test_programs_leave_what_they_do_in_the_simulator() -> None:
    device = machine()
    for amount in (3, -100, 127):
        assert left(device, add(amount)) == left(Fsim(SMALL, 1 << 16), add(amount))


LONG = Store(0, OUTPUT // 4, 60000, 1, 1, pop_prev=True)
FAILURES: dict[str, tuple[str, list[Instruction]]] = {
    "undefined": (ERRORS[0], [Load(Memory.OUT, 0, 0, 1, 1, 1), Finish()]),
    "empty": (ERRORS[1], [Gemm(True, 0, 0, 1, 1, 0, 0, 0, 0, 0, 0), Finish()]),
    "far": (ERRORS[4], [Load(Memory.ACC, 0, 0x8000, 1, 1, 1), Finish()]),
    "far store": (
        ERRORS[4],
        [*add(1)[:3], Store(0, 0x8000, 1, 1, 1, pop_prev=True, push_prev=True), add(1)[4]],
    ),
    "still storing": (ERRORS[5], [*add(1)[:3], LONG, Finish()]),
}


@pytest.mark.parametrize("name", FAILURES)
def test_a_program_runs_after_one_that_failed(name: str) -> None:
    text, program = FAILURES[name]
    device = machine()
    with pytest.raises(InputError) as error:
        left(device, program)
    assert str(error.value) == f"the core stopped: {text}"
    assert left(device, add(5)) == left(Fsim(SMALL, 1 << 16), add(5))


def test_a_board_of_another_configuration_is_refused() -> None:
    with pytest.raises(InputError, match="the board carries the configuration"):
        machine(Config())
