"""A board's whole design: which machine, what its memory holds at first, how fast its serial line is."""

from __future__ import annotations

from dataclasses import dataclass

from optc.targets.fpga import tools
from optc.targets.fpga.boards import Board

DIVISOR = 8
"""Clocks a bit in simulation."""
COPY = "optc_copy"
"""Attribute of registers that hold the same: synthesis, which merges what is equal, is to keep them apart."""


@dataclass(frozen=True)
class Design:
    """A board with what its memory holds at first, and how fast its serial line is in clocks a bit."""

    board: Board
    init: bytes = b""
    divisor: int = DIVISOR

    def rtlil(self) -> str:
        """The design as Yosys reads it."""
        from amaranth.back import rtlil

        from optc.targets.fpga.rtl.top import Top

        b = self.board
        top = Top(b.config, b.banks, self.divisor, b.clock_mhz, b.target_mhz, self.init)
        return str(rtlil.convert(top, name="board"))

    def key(self, *packages: str) -> str:
        """A hash of all that the design and what `packages` make of it depend on."""
        parts = (repr(self.board), self.init, str(self.divisor))
        shims = [p for p in (tools.HERE / "sim").iterdir() if p.suffix in (".v", ".cpp")]
        sources = [*tools.rtl_sources(), *shims, *tools.RECIPE]
        return tools.digest(*parts, packages=packages, sources=sources)
