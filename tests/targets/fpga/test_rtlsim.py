"""The core in Verilator leaves the bytes of the original's conformance vectors, in no more cycles."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from machines import needs_rtl

from optc.targets.fpga.rtlsim import Bus, RtlSim
from optc.targets.vta.config import Config
from optc.targets.vta.program import Program

pytestmark = needs_rtl
MEMORY = 1 << 24
VECTORS = sorted((Path(__file__).parents[1] / "vta" / "vectors").glob("*.npz"))
SLOW_BUSES = [(1, 0), (60, 160), (16, 96)]
"""Latency, and in how many of 256 cycles a channel waits."""


def run(path: Path, latency: int = 16, stall: int = 0) -> tuple[int, int]:
    """Cycles of the core, and of the original, on a vector whose bytes come out right."""
    program = Program.load(path)
    device = RtlSim(Config(), MEMORY, Bus(latency, stall, seed=1))
    for address, data in program.inputs:
        device.write(address, data)
    start = program.place()
    device.write(start, program.instructions.reshape(-1))
    cycles = device.run(start, len(program.instructions))
    for address, wanted in program.expected:
        np.testing.assert_array_equal(device.read(address, wanted.nbytes), wanted)
    with np.load(path) as data:
        return cycles, int(data["cycles_pynq"])


def test_some_vectors() -> None:
    found = [run(path) for path in VECTORS[::6]]
    assert len(found) == 7
    assert all(ours <= 1.02 * theirs for ours, theirs in found)


@pytest.mark.slow
def test_all_vectors_and_their_cycles() -> None:
    found = [run(path) for path in VECTORS]
    assert len(found) == 40
    assert all(ours <= 1.02 * theirs for ours, theirs in found)
    assert sum(ours for ours, _ in found) <= sum(theirs for _, theirs in found)


@pytest.mark.slow
@pytest.mark.parametrize(("latency", "stall"), SLOW_BUSES)
def test_a_memory_that_is_slow_or_stalls(latency: int, stall: int) -> None:
    for path in VECTORS[::4]:
        run(path, latency, stall)
