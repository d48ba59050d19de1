"""Steps that read what one just before them wrote: no program may count on it, the core forwards it."""

from __future__ import annotations

import numpy as np
import pytest
from machines import MEMORY, SMALL, needs_rtl

from optc.targets.fpga.rtlsim import RtlSim
from optc.targets.vta.config import Memory
from optc.targets.vta.device import PAGE
from optc.targets.vta.isa import Alu, AluOp, Finish, Instruction, Load, Store, encode, encode_uops

pytestmark = needs_rtl
UOPS, VALUES, OUT = 0x2000, 0x3000, 0x4000
STEPS = 20


def stored(distance: int, values: np.ndarray[tuple[int, ...], np.dtype[np.int32]]) -> bytes:
    """The low bytes of ACC after `acc[n + distance] += acc[n]`, n from 0 to `STEPS` - 1."""
    nest = (0, 1, 1, STEPS, 0, 1, 0, 1)
    program: list[Instruction] = [
        Load(Memory.UOP, 0, UOPS // 4, 1, 1, 1),
        Load(Memory.ACC, 0, VALUES // 16, 1, len(values), len(values)),
        Alu(AluOp.ADD, False, 0, *nest, push_next=True),
        Store(distance, OUT // 4, 1, STEPS, STEPS, pop_prev=True, push_prev=True),
        Finish(pop_next=True),
    ]
    device = RtlSim(SMALL, MEMORY)
    uop = encode_uops(np.array([distance]), np.array([0]), np.array([0]), SMALL)
    for address, data in ((UOPS, uop), (VALUES, values), (PAGE, encode(program, SMALL))):
        device.write(address, data.reshape(-1).view(np.uint8))
    device.run(PAGE, len(program))
    return device.read(OUT, STEPS * 4).tobytes()


@pytest.mark.parametrize("distance", range(7))
def test_a_step_sees_what_the_steps_before_it_wrote(distance: int) -> None:
    values = np.random.default_rng(distance).integers(-(2**31), 2**31, (32, 4)).astype(np.int32)
    wanted = values.copy()
    for n in range(STEPS):
        wanted[n + distance] += wanted[n]
    assert stored(distance, values) == wanted[distance : distance + STEPS].astype(np.int8).tobytes()
