"""The functional simulator: the bytes that the real implementations agree on, and no others."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from optc.targets.vta.chip import Chip
from optc.targets.vta.config import Config
from optc.targets.vta.device import Ram
from optc.targets.vta.isa import Alu, Gemm, Instruction, Load, Store, decode
from optc.targets.vta.order import legal_order

MEMORY_BYTES = 1 << 28
"""Memory of a simulator that is not told otherwise; the system gives pages only as they are written."""


class Fsim:
    """A `Device` without time; `order` None runs a program in its order, a seed in a random legal one."""

    def __init__(self, config: Config, memory_bytes: int = MEMORY_BYTES, order: int | None = None) -> None:
        self.config, self.order = config, order
        self._ram = Ram(memory_bytes)
        self._chip = Chip(config, self._ram.bytes)
        self._stream, self._decoded = b"", list[Instruction]()

    def write(self, address: int, data: NDArray[np.uint8]) -> None:
        """As `Device.write`."""
        self._ram.write(address, data)

    def read(self, address: int, size: int) -> NDArray[np.uint8]:
        """As `Device.read`."""
        return self._ram.read(address, size)

    def run(self, address: int, count: int) -> int:
        """As `Device.run`; always 0 cycles."""
        self.execute(self.fetch(address, count))
        return 0

    def fetch(self, address: int, count: int) -> list[Instruction]:
        """The instructions that `run` would execute, decoded unless they are those of last time."""
        stream = self._ram.stream(address, count)
        if stream.tobytes() != self._stream:
            self._decoded = decode(stream, self.config)
            self._stream = stream.tobytes()
        return self._decoded

    def execute(self, instructions: Sequence[Instruction]) -> None:
        """Run decoded instructions on the memory."""
        self._chip.clear()
        for index in legal_order(instructions, self.order):
            self._step(index, instructions[index])

    def _step(self, index: int, insn: Instruction) -> None:
        if isinstance(insn, Gemm):
            self._chip.gemm(index, insn)
        elif isinstance(insn, Alu):
            self._chip.alu(index, insn)
        elif isinstance(insn, Load):
            self._chip.load(index, insn)
        elif isinstance(insn, Store):
            self._chip.store(index, insn)
