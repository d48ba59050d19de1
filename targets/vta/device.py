"""What runs VTA programs: a memory, and something that executes instructions in it."""

from __future__ import annotations

from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from optc.models.errors import InputError

PAGE = 0x1000
"""Physical addresses below this are never handed out; instructions must not use them."""
MAX_STREAM_BYTES = 1 << 25
"""The longest instruction stream that one launch takes."""


class SimulationError(InputError):
    """A program did what the real implementations do not agree on; the text names the instruction."""

    def __init__(self, index: int, reason: str) -> None:
        super().__init__(f"instruction {index}: {reason}")
        self.index = index
        self.reason = reason


class Device(Protocol):
    """A VTA with its memory. Addresses are physical, in bytes; memory is zero where nothing was written."""

    def write(self, address: int, data: NDArray[np.uint8]) -> None:
        """Copy `data` into memory at `address`; `InputError` where it does not fit."""

    def read(self, address: int, size: int) -> NDArray[np.uint8]:
        """A copy of `size` bytes of memory at `address`; `InputError` where there are none."""

    def run(self, address: int, count: int) -> int:
        """Execute `count` instructions at `address`; cycles, or 0 from a device that counts none.

        Raises `InputError` for a stream that is misplaced or cannot be decoded, `SimulationError` where an
        instruction is undefined. Nothing on the chip outlives a run.
        """


class Ram:
    """`size` bytes of zeroed memory that refuses addresses it does not have."""

    def __init__(self, size: int) -> None:
        self.bytes: NDArray[np.uint8] = np.zeros(size, np.uint8)

    def write(self, address: int, data: NDArray[np.uint8]) -> None:
        """As `Device.write`."""
        self._check(address, data.size)
        self.bytes[address : address + data.size] = data.reshape(-1)

    def read(self, address: int, size: int) -> NDArray[np.uint8]:
        """As `Device.read`."""
        self._check(address, size)
        return self.bytes[address : address + size].copy()

    def stream(self, address: int, count: int) -> NDArray[np.uint8]:
        """The (count, 16) bytes of an instruction stream; `InputError` where none can be."""
        if count < 1 or count * 16 > MAX_STREAM_BYTES:
            raise InputError(f"{count} instructions: a launch takes 1 to {MAX_STREAM_BYTES // 16}")
        if address % 16 or address < PAGE:
            raise InputError(f"instructions at {address:#x}: align them to 16 bytes, from {PAGE:#x} on")
        return self.read(address, count * 16).reshape(count, 16)

    def _check(self, address: int, size: int) -> None:
        if address < 0 or size < 0 or address + size > self.bytes.size:
            raise InputError(f"{size} bytes at {address:#x} pass the memory's end at {self.bytes.size:#x}")
