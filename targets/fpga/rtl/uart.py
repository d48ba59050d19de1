"""Bytes over two wires: one start bit, eight data bits from the lowest, one stop bit."""

from amaranth import Cat, Elaboratable, Module, Signal
from amaranth.lib import stream, wiring
from amaranth.lib.cdc import FFSynchronizer
from amaranth.lib.wiring import In, Out

BITS = 10
"""Of a byte on the wire."""


class Receiver(wiring.Component):
    """`bytes`: what comes in on `rx`, each valid for one cycle; `divisor` clocks are a bit (8 or more)."""

    def __init__(self, divisor: int) -> None:
        self._divisor = divisor
        super().__init__({"rx": In(1, init=1), "bytes": Out(stream.Signature(8, always_ready=True))})

    def elaborate(self, platform: object) -> Elaboratable:
        """Each bit is sampled in its middle."""
        m = Module()
        rx, before = Signal(init=1), Signal(init=1)
        m.submodules.synchronizer = FFSynchronizer(self.rx, rx, init=1)
        wait, left, byte = Signal(range(2 * self._divisor)), Signal(range(BITS)), Signal(8)
        m.d.comb += self.bytes.payload.eq(byte)
        m.d.sync += [self.bytes.valid.eq(0), before.eq(rx)]
        with m.If(left == 0), m.If(before & ~rx):  # a line that stays low begins nothing
            m.d.sync += [wait.eq(self._divisor + self._divisor // 2 - 2), left.eq(BITS - 1)]
        with m.Elif(wait != 0):
            m.d.sync += wait.eq(wait - 1)
        with m.Else():
            m.d.sync += [wait.eq(self._divisor - 1), left.eq(left - 1)]
            with m.If(left == 1):
                m.d.sync += self.bytes.valid.eq(rx)  # a stop bit that is low: no byte
            with m.Else():
                m.d.sync += byte.eq(Cat(byte[1:], rx))
        return m


class Transmitter(wiring.Component):
    """Sends `bytes` on `tx`; `divisor` clocks are a bit."""

    def __init__(self, divisor: int) -> None:
        self._divisor = divisor
        super().__init__({"bytes": In(stream.Signature(8)), "tx": Out(1, init=1)})

    def elaborate(self, platform: object) -> Elaboratable:
        """A register that is shifted out."""
        m = Module()
        wait, left = Signal(range(self._divisor)), Signal(range(BITS + 1))
        frame = Signal(BITS, init=(1 << BITS) - 1)
        m.d.comb += [self.tx.eq(frame[0]), self.bytes.ready.eq(left == 0)]
        with m.If(left == 0), m.If(self.bytes.valid):
            m.d.sync += [frame.eq(Cat(0, self.bytes.payload, 1)), left.eq(BITS)]
            m.d.sync += wait.eq(self._divisor - 1)
        with m.Elif(wait != 0):
            m.d.sync += wait.eq(wait - 1)
        with m.Else():
            m.d.sync += [frame.eq(Cat(frame[1:], 1)), left.eq(left - 1), wait.eq(self._divisor - 1)]
        return m
