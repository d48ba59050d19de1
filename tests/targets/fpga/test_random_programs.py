"""Generated programs: the core leaves the bytes that the functional simulator leaves, on any memory."""

from __future__ import annotations

import json

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from machines import BATCHED, MEMORY, MIDDLE, SMALL, needs_rtl
from programs import PAGE, Drawn, programs

from optc.targets.fpga.rtlsim import Bus, RtlSim
from optc.targets.vta.config import Config
from optc.targets.vta.device import Device
from optc.targets.vta.sim import Fsim

pytestmark = needs_rtl
BUSES = st.builds(
    Bus,
    latency=st.sampled_from([1, 2, 7, 16, 60]),
    stall=st.sampled_from([0, 0, 16, 96, 200]),
    seed=st.integers(0, 2**16),
)
MACHINES = {"small": SMALL, "middle": MIDDLE, "batched": BATCHED}


def left(drawn: Drawn, device: Device) -> bytes:
    """All of the memory that the program may touch, after it ran."""
    device.write(PAGE, np.frombuffer(drawn.memory[PAGE:], np.uint8))
    device.write(drawn.free, drawn.rows.reshape(-1))
    device.run(drawn.free, len(drawn.rows))
    return device.read(PAGE, MEMORY - PAGE).tobytes()


def compare(config: Config, examples: int) -> None:
    drawn_for = programs(json.loads(config.to_json()))

    @settings(max_examples=examples, deadline=None, suppress_health_check=list(HealthCheck))
    @given(drawn=drawn_for, bus=BUSES)
    def equal(drawn: Drawn, bus: Bus) -> None:
        assert left(drawn, RtlSim(config, MEMORY, bus)) == left(drawn, Fsim(config, MEMORY))

    equal()


def test_small_programs() -> None:
    compare(SMALL, 300)


@pytest.mark.slow
@pytest.mark.parametrize("name", MACHINES)
def test_many_programs(name: str) -> None:
    compare(MACHINES[name], 1500)
