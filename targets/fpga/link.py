"""A board as a `Device`: memory and programs over a stream of bytes, whatever carries it."""

from __future__ import annotations

import struct
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from optc.models.errors import InputError
from optc.targets.vta.config import Config

ERRORS = (
    "an instruction that VTA does not define",
    "a place beyond a memory on the chip, an empty loop, or a shift that VTA has not",
    "more tokens than a counter holds",
    "no progress: a token is missing",
    "an address beyond memory",
    "tokens are left at the end, or it did not wait for a load or store",
)
"""What the bits of the core's error register say, from the lowest."""


def check_errors(register: int) -> None:
    """`InputError` that says what the core's error register holds, where it is not zero."""
    found = [text for bit, text in enumerate(ERRORS) if register >> bit & 1]
    if register:
        raise InputError(f"the core stopped: {'; '.join(found) or 'it did not end'}")


class Link(Protocol):
    """Two directions of bytes."""

    def send(self, data: bytes) -> None:
        """Send all of `data`."""

    def receive(self, count: int) -> bytes:
        """The next `count` bytes; `InputError` where they do not come."""


class LinkedBoard:
    """A `Device` behind a link; requests as in `rtl/host.py`.

    Raises `InputError` where the board carries another configuration.
    """

    def __init__(self, config: Config, link: Link) -> None:
        from optc.targets.fpga.rtl.board import identity

        self.config, self._link = config, link
        self._request("i", 0, 0)
        found = link.receive(8)
        if found != identity(config):
            raise InputError(
                f"the board carries the configuration {found.hex()}, the program was built for "
                f"{identity(config).hex()}; load the bitstream that was compiled with it"
            )

    def write(self, address: int, data: NDArray[np.uint8]) -> None:
        """As `Device.write`."""
        raw = np.ascontiguousarray(data, np.uint8).tobytes()
        self._request("w", address, len(raw))
        self._link.send(raw)

    def read(self, address: int, size: int) -> NDArray[np.uint8]:
        """As `Device.read`."""
        self._request("r", address, size)
        return np.frombuffer(self._link.receive(size), np.uint8).copy()

    def run(self, address: int, count: int) -> int:
        """As `Device.run`; `InputError` says what the core's error register held."""
        self._request("x", address, count)
        error, cycles = struct.unpack("<BI", self._link.receive(5))
        check_errors(error)
        return int(cycles)

    def _request(self, which: str, address: int, size: int) -> None:
        self._link.send(which.encode() + struct.pack("<II", address, size))
