"""The core in Verilator, behind the protocol of a device."""

from __future__ import annotations

import ctypes
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from optc.models.errors import InputError
from optc.targets.fpga.verilate import library
from optc.targets.vta.config import Config
from optc.targets.vta.device import Ram
from optc.targets.vta.sim import MEMORY_BYTES

LIMIT = 1 << 40
"""Cycles after which a run is given up; the core's own watchdog is far earlier."""
_ERRORS = (
    "an instruction that VTA does not define",
    "a place beyond a memory on the chip, an empty loop, or a shift that VTA has not",
    "more tokens than a counter holds",
    "no progress: a token is missing",
    "an address beyond memory",
)


@dataclass(frozen=True)
class Bus:
    """What memory is like: cycles until a read's first word; of 256 cycles, in how many a channel waits."""

    latency: int = 16
    stall: int = 0
    seed: int = 0


class RtlSim:
    """A `Device` that is the RTL, cycle by cycle."""

    def __init__(self, config: Config, memory_bytes: int = MEMORY_BYTES, bus: Bus | None = None) -> None:
        self.config, self._bus = config, bus or Bus()
        self._ram = Ram(memory_bytes)
        self._run = ctypes.CDLL(str(library(config))).vta_run

    def write(self, address: int, data: NDArray[np.uint8]) -> None:
        """As `Device.write`."""
        self._ram.write(address, data)

    def read(self, address: int, size: int) -> NDArray[np.uint8]:
        """As `Device.read`."""
        return self._ram.read(address, size)

    def run(self, address: int, count: int) -> int:
        """As `Device.run`; `InputError` says what the core's error register held."""
        self._ram.stream(address, count)
        memory, cycles = self._ram.bytes, ctypes.c_uint32()
        place = ctypes.c_void_p(memory.ctypes.data)
        bus = (self._bus.latency, self._bus.stall, self._bus.seed)
        found = self._run(
            place,
            ctypes.c_uint64(memory.size),
            ctypes.c_uint32(address),
            ctypes.c_uint32(count),
            *map(ctypes.c_uint32, bus),
            ctypes.c_uint64(LIMIT),
            ctypes.byref(cycles),
        )
        errors = [text for bit, text in enumerate(_ERRORS) if found >> bit & 1]
        if found:
            raise InputError(f"the core stopped: {'; '.join(errors) or 'it did not end'}")
        return cycles.value
