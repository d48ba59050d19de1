"""Generated programs: the checker accepts them, the simulator leaves what the plain interpreter leaves."""

from __future__ import annotations

import json
import random

import interpreter
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from programs import PAGE, Drawn, programs

from optc.targets.vta.check import check
from optc.targets.vta.config import Config
from optc.targets.vta.device import Device
from optc.targets.vta.isa import decode, encode
from optc.targets.vta.program import Program
from optc.targets.vta.sim import Fsim
from optc.targets.vta.text import assemble, disassemble
from optc.targets.vta.timed import Timed


def configuration(drawn: Drawn) -> Config:
    return Config.from_json(json.dumps(drawn.config))


def interpreted(drawn: Drawn) -> bytes:
    memory = bytearray(drawn.memory)
    interpreter.run(drawn.rows, memory, drawn.config, random.Random(3).choice)
    return bytes(memory[PAGE : drawn.free])


def simulated(drawn: Drawn, device: Device) -> bytes:
    device.write(PAGE, np.frombuffer(drawn.memory[PAGE : drawn.free], np.uint8))
    device.write(drawn.free, drawn.rows.reshape(-1))
    device.run(drawn.free, len(drawn.rows))
    return device.read(PAGE, drawn.free - PAGE).tobytes()


@settings(max_examples=60, deadline=None)
@given(drawn=programs(), seed=st.integers(0, 2**16))
def test_simulator_equals_the_interpreter(drawn: Drawn, seed: int) -> None:
    config, expected = configuration(drawn), interpreted(drawn)
    assert simulated(drawn, Fsim(config)) == expected
    assert simulated(drawn, Fsim(config, order=seed)) == expected
    assert simulated(drawn, Timed(config)) == expected


@settings(max_examples=100, deadline=None)
@given(drawn=programs())
def test_checker_accepts(drawn: Drawn) -> None:
    data = np.frombuffer(drawn.memory[PAGE : drawn.free], np.uint8)
    program = Program(drawn.rows, ((PAGE, data),), ())
    config = configuration(drawn)
    check(decode(drawn.rows, config), config, program.memory_image())


@settings(max_examples=50, deadline=None)
@given(drawn=programs())
def test_bits_and_text_round_trip(drawn: Drawn) -> None:
    """Two encoders, written apart, agree."""
    config = configuration(drawn)
    instructions = decode(drawn.rows, config)
    assert np.array_equal(encode(instructions, config), drawn.rows)
    assert assemble(disassemble(instructions)) == instructions


@settings(max_examples=30, deadline=None)
@given(drawn=programs(), data=st.data())
def test_a_missing_token_does_not_hang(drawn: Drawn, data: st.DataObject) -> None:
    """Whatever a flag less does — deadlock, a token left over, a race — the simulator comes back."""
    flags = [
        (row, bit) for row, bits in enumerate(drawn.rows[:, 0]) for bit in range(3, 7) if bits >> bit & 1
    ]
    row, bit = data.draw(st.sampled_from(flags))
    rows = drawn.rows.copy()
    rows[row, 0] ^= 1 << bit
    broken = Drawn(drawn.config, rows, drawn.memory, drawn.free)
    config = configuration(drawn)
    with pytest.raises(interpreter.Undefined):
        interpreted(broken)
    for device in (Fsim(config), Fsim(config, order=1)):
        with pytest.raises(Exception, match="instruction|token"):
            simulated(broken, device)
