"""What optc has to know of a board: its part, its clock, its pins, and what it is to run."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from optc.targets.vta.config import Config

BANK_BYTES = 1 << 16
"""Of a bank of a design's memory: 32 block RAMs of an ECP5, each with two bits of all its words of 64."""


@dataclass(frozen=True)
class Part:
    """A Lattice ECP5: how nextpnr names it, and what it has.

    `luts`: of four inputs; `multipliers`: 18 × 18 bits; `block_rams`: of 18 kibit.
    """

    name: str
    flag: str
    package: str
    speed: int
    luts: int
    flip_flops: int
    multipliers: int
    block_rams: int


@dataclass(frozen=True)
class Board:
    """A board. `clock_mhz`: what its oscillator gives; `target_mhz`: what the core is to run at.

    `pins`: by port (`clk`, `rx`, `tx`, `led[0]`, …), a site of the package; `baud`: of its serial line;
    `config`, `banks`: the largest machine that fits, and its memory in banks of `BANK_BYTES`.
    """

    name: str
    part: Part
    clock_mhz: float
    target_mhz: float
    baud: int
    pins: Mapping[str, str]
    config: Config
    banks: int

    def constraints(self) -> str:
        """The pins as a file of constraints (LPF)."""
        lines = [f'FREQUENCY PORT "clk" {self.clock_mhz:g} MHZ;']
        for port, site in self.pins.items():
            lines.append(f'LOCATE COMP "{port}" SITE "{site}";')
            lines.append(f'IOBUF PORT "{port}" IO_TYPE=LVCMOS33;')
        return "\n".join(lines) + "\n"
