"""The core in Verilator, behind the protocol of a device."""

from __future__ import annotations

import ctypes
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from optc.targets.fpga.link import check_errors
from optc.targets.fpga.verilate import library
from optc.targets.vta.config import Config
from optc.targets.vta.device import Ram
from optc.targets.vta.sim import MEMORY_BYTES

LIMIT = 1 << 40
"""Cycles after which a run is given up; the core's own watchdog is far earlier."""


@dataclass(frozen=True)
class Bus:
    """What memory is like: cycles until a read's first word; of 256 cycles, in how many a channel waits."""

    latency: int = 16
    stall: int = 0
    seed: int = 0


@dataclass(frozen=True)
class Waves:
    """A file of waves (VCD): the cycles `first` to before `last` of a run, counted from its launch."""

    path: Path
    first: int
    last: int


class RtlSim:
    """A `Device` that is the RTL, cycle by cycle; `waves`: what to write of each run."""

    def __init__(
        self,
        config: Config,
        memory_bytes: int = MEMORY_BYTES,
        bus: Bus | None = None,
        waves: Waves | None = None,
    ) -> None:
        self.config, self._bus, self._waves = config, bus or Bus(), waves
        self._ram = Ram(memory_bytes)
        self._run = ctypes.CDLL(str(library(config, waves is not None))).vta_run

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
        waves = self._waves
        found = self._run(
            place,
            ctypes.c_uint64(memory.size),
            ctypes.c_uint32(address),
            ctypes.c_uint32(count),
            *map(ctypes.c_uint32, bus),
            ctypes.c_uint64(LIMIT),
            ctypes.byref(cycles),
            ctypes.c_char_p(bytes(waves.path) if waves else None),
            ctypes.c_uint64(waves.first if waves else 0),
            ctypes.c_uint64(waves.last if waves else 0),
        )
        check_errors(found)
        return cycles.value
