"""One lane of the tensor ALU."""

from amaranth import Const, Elaboratable, Module, Mux, Signal, Value, signed
from amaranth.lib import wiring
from amaranth.lib.wiring import In, Out

from optc.targets.vta.isa import AluOp


class Lane(wiring.Component):
    """`result` = `op`(`x`, `y`) in 32 bits, in the same cycle; zero where `reset`.

    SHR shifts right by 0 to 15, or left by up to 16 where `y` is negative. `refused`: `y` is none of these.
    """

    op: In(2)
    reset: In(1)
    x: In(signed(32))
    y: In(signed(32))
    result: Out(signed(32))
    refused: Out(1)

    def elaborate(self, platform: object) -> Elaboratable:
        """All four; what is not asked for is zero, so that one gate is left behind the rotation."""
        m = Module()
        less, other = Signal(), Signal(32)
        kept, fill = Signal(32), Signal(32)
        m.d.comb += less.eq(self.x < self.y)
        with m.If(~self.reset), m.Switch(self.op):
            with m.Case(AluOp.MIN.value):
                m.d.comb += other.eq(Mux(less, self.x, self.y))
            with m.Case(AluOp.MAX.value):
                m.d.comb += other.eq(Mux(less, self.y, self.x))
            with m.Case(AluOp.ADD.value):
                m.d.comb += other.eq(self.x + self.y)
            with m.Case(AluOp.SHR.value):
                m.d.comb += [*self._kept(kept, fill), self.refused.eq((self.y < -16) | (self.y > 15))]
        m.d.comb += self.result.eq((self._turned() & kept) | fill | other)
        return m

    def _turned(self) -> Value:
        """`x` right by `y` modulo 32: one rotation serves both directions."""
        return (self.x.as_unsigned().replicate(2) >> self.y[:5])[:32]

    def _kept(self, kept: Signal, fill: Signal) -> list[object]:
        """What came around is replaced: the highest `y` bits by the sign, or the lowest -`y` by zeros."""
        left, ones = self.y[31], Const((1 << 32) - 1, 32)
        # Left by -y keeps the highest 32 + y, which is what y's lowest five bits are.
        mask = Mux(left, ~(ones >> self.y[:5]), ones >> self.y[:4])
        sign = self.x[31] & ~left
        return [kept.eq(mask), fill.eq(~mask & sign.replicate(32))]
