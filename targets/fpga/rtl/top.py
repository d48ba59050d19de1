"""What goes onto an ECP5: the board's clock through a PLL, a reset until it is steady, and the machine."""

from amaranth import Cat, ClockDomain, ClockSignal, Elaboratable, Instance, Module, Signal
from amaranth.lib import wiring
from amaranth.lib.cdc import ResetSynchronizer
from amaranth.lib.wiring import In, Out

from optc.targets.fpga.rtl.board import Board
from optc.targets.vta.config import Config

OSCILLATOR = (400.0, 800.0)
"""MHz that the PLL's oscillator may run at (Lattice FPGA-DS-02012, "sysCLOCK PLL Timing")."""
PHASE_DETECTOR = 10.0
"""MHz that it is to compare at, at least (ibid.)."""


def pll_dividers(clock: float, target: float) -> tuple[int, int, int]:
    """Dividers of the input, of the feedback and of the oscillator, for the highest clock up to `target` MHz.

    `ValueError` where there are none.
    """
    found = []
    for divide in range(1, int(clock / PHASE_DETECTOR) + 1):
        times = int(target * divide / clock)
        for out in range(1, 129):
            if times and OSCILLATOR[0] <= clock / divide * times * out <= OSCILLATOR[1]:
                found.append((clock / divide * times, -divide, -out))
    if not found:
        raise ValueError(f"no PLL setting makes {target:g} MHz of {clock:g} MHz")
    made, divide, out = max(found)
    return -divide, round(made * -divide / clock), -out


class Top(wiring.Component):
    """Ports `clk` (`clock` MHz), `rx`, `tx`, eight `led` (busy, failed); the machine runs at `target` MHz."""

    def __init__(
        self, config: Config, banks: int, divisor: int, clock: float, target: float, init: bytes = b""
    ) -> None:
        self._board, self._dividers = Board(config, banks, divisor, init), pll_dividers(clock, target)
        super().__init__({"clk": In(1), "rx": In(1, init=1), "tx": Out(1, init=1), "led": Out(8)})

    def elaborate(self, platform: object) -> Elaboratable:
        """The PLL's output is its own feedback."""
        m = Module()
        m.domains.sync = ClockDomain()
        m.submodules.board = board = self._board
        divide, times, out = self._dividers
        locked = Signal()
        m.submodules.pll = Instance(
            "EHXPLLL",
            p_CLKI_DIV=divide,
            p_CLKFB_DIV=times,
            p_CLKOP_DIV=out,
            p_CLKOP_CPHASE=out - 1,
            p_CLKOP_ENABLE="ENABLED",
            p_FEEDBK_PATH="CLKOP",
            i_CLKI=self.clk,
            i_CLKFB=ClockSignal(),
            i_RST=0,
            i_STDBY=0,
            i_ENCLKOP=1,
            o_CLKOP=ClockSignal(),
            o_LOCK=locked,
        )
        m.submodules.reset = ResetSynchronizer(~locked)
        m.d.comb += [board.rx.eq(self.rx), self.tx.eq(board.tx), self.led.eq(Cat(board.busy, board.failed))]
        return m
