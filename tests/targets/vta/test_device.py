"""What every `Device` must do; a new one joins by a line in DEVICES."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from machines import needs_rtl

from optc.models.errors import InputError
from optc.targets.fpga.rtlsim import RtlSim
from optc.targets.vta.config import Config, Memory
from optc.targets.vta.device import PAGE, Device
from optc.targets.vta.isa import Alu, AluOp, Finish, Instruction, Load, Store, encode
from optc.targets.vta.program import Program
from optc.targets.vta.sim import Fsim
from optc.targets.vta.timed import Timed
from optc.targets.vta.timing import DE10

MEMORY = 1 << 22
VECTORS = sorted((Path(__file__).parent / "vectors").glob("*.npz"))
DEVICES: dict[str, Callable[[Config], Device]] = {
    "fsim": lambda config: Fsim(config, MEMORY),
    "timed": lambda config: Timed(config, memory_bytes=MEMORY),
    "timed de10": lambda config: Timed(config, DE10, MEMORY),
    "rtl": lambda config: RtlSim(config, MEMORY),
}
MARKS = {"rtl": needs_rtl}


@pytest.fixture(params=[pytest.param(name, marks=MARKS.get(name, ())) for name in DEVICES])
def device(request: pytest.FixtureRequest) -> Device:
    return DEVICES[request.param](Config())


def says(device: Device, simulator: str, core: str) -> str:
    """What an error says: a simulator knows the instruction, a core what kind of error it was."""
    return core if isinstance(device, RtlSim) else simulator


def launch(device: Device, instructions: list[Instruction]) -> int:
    stream = encode(instructions, Config())
    device.write(PAGE, stream)
    return device.run(PAGE, len(stream))


def test_memory_is_zero_then_holds_what_was_written(device: Device) -> None:
    data = np.arange(1, 6, dtype=np.uint8)
    assert not device.read(PAGE, 8).any()
    device.write(PAGE + 1, data)
    assert device.read(PAGE, 7).tolist() == [0, 1, 2, 3, 4, 5, 0]


def test_what_is_read_is_a_copy(device: Device) -> None:
    device.read(PAGE, 4)[:] = 1
    assert not device.read(PAGE, 4).any()


@pytest.mark.parametrize("address", [-1, MEMORY - 3, 1 << 40])
def test_addresses_beyond_the_memory_are_refused(device: Device, address: int) -> None:
    with pytest.raises(InputError, match="memory's end"):
        device.read(address, 4)
    with pytest.raises(InputError, match="memory's end"):
        device.write(address, np.zeros(4, np.uint8))


@pytest.mark.parametrize("address, count", [(0, 1), (PAGE + 8, 1), (PAGE, 0), (MEMORY, 1), (PAGE, 1 << 22)])
def test_a_stream_that_cannot_be_there_is_refused(device: Device, address: int, count: int) -> None:
    with pytest.raises(InputError):
        device.run(address, count)


def test_no_instruction_is_refused(device: Device) -> None:
    device.write(PAGE, np.full(16, 255, np.uint8))
    with pytest.raises(InputError, match=says(device, "instruction 0", "does not define")):
        device.run(PAGE, 1)


def test_finish_runs_again_and_again(device: Device) -> None:
    assert launch(device, [Finish()]) == launch(device, [Finish()])


def test_deadlock_comes_back(device: Device) -> None:
    with pytest.raises(InputError, match=says(device, "instruction 0: deadlock", "a token is missing")):
        launch(device, [Finish(pop_prev=True)])


def test_a_refused_program_does_not_spoil_the_next(device: Device) -> None:
    load = Load(Memory.INP, 0, PAGE // 16, 1, 1, 1, push_next=True)
    with pytest.raises(InputError, match=says(device, "left at FINISH", "tokens are left")):
        launch(device, [load, Finish()])
    launch(device, [load, Finish(pop_prev=True)])


def test_another_program_at_the_same_place(device: Device) -> None:
    """A device may keep what it decoded only as long as the bytes stand."""
    loops, found = (0, 1, 1, 1, 0, 0, 0, 0), []
    for amount in (3, 5):
        program: list[Instruction] = [
            Load(Memory.UOP, 0, 0x2000 // 4, 1, 1, 1),
            Load(Memory.ACC, 0, 0x3000 // 64, 1, 1, 1),
            Alu(AluOp.ADD, True, amount, *loops, push_next=True),
            Store(0, 0x4000 // 16, 1, 1, 1, pop_prev=True, push_prev=True),
            Finish(pop_next=True),
        ]
        launch(device, program)
        found.append(int(device.read(0x4000, 1)[0]))
    assert found == [3, 5]


@pytest.mark.parametrize("path", VECTORS, ids=lambda path: path.stem)
def test_vectors(device: Device, path: Path) -> None:
    run_vector(device, path)


@pytest.mark.parametrize("path", VECTORS, ids=lambda path: path.stem)
def test_vectors_in_random_legal_orders(path: Path) -> None:
    for seed in range(5):
        run_vector(Fsim(Config(), MEMORY, order=seed), path)


def run_vector(device: Device, path: Path) -> None:
    program = Program.load(path)
    for address, data in program.inputs:
        device.write(address, data)
    start = program.place()
    device.write(start, program.instructions)
    device.run(start, len(program.instructions))
    for address, data in program.expected:
        assert np.array_equal(device.read(address, data.size), data)
