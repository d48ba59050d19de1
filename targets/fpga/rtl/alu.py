"""One lane of the tensor ALU."""

from amaranth import Const, Elaboratable, Module, Mux, Signal, Value, signed
from amaranth.lib import wiring
from amaranth.lib.wiring import In, Out

from optc.targets.vta.isa import AluOp


class Lane(wiring.Component):
    """`result` = `op`(`x`, `y`) in 32 bits, in the same cycle.

    SHR shifts right by 0 to 15, or left by up to 16 where `y` is negative. `refused`: `y` is none of these.
    """

    op: In(2)
    x: In(signed(32))
    y: In(signed(32))
    result: Out(signed(32))
    refused: Out(1)

    def elaborate(self, platform: object) -> Elaboratable:
        """All four, and the one that is asked for."""
        m = Module()
        less = Signal()
        m.d.comb += less.eq(self.x < self.y)
        with m.Switch(self.op):
            with m.Case(AluOp.MIN.value):
                m.d.comb += self.result.eq(Mux(less, self.x, self.y))
            with m.Case(AluOp.MAX.value):
                m.d.comb += self.result.eq(Mux(less, self.y, self.x))
            with m.Case(AluOp.ADD.value):
                m.d.comb += self.result.eq(self.x + self.y)
            with m.Case(AluOp.SHR.value):
                m.d.comb += self.result.eq(self._shifted(m))
                m.d.comb += self.refused.eq((self.y < -16) | (self.y > 15))
        return m

    def _shifted(self, m: Module) -> Value:
        """One rotation serves both directions: right by `y` modulo 32; then what came around is replaced.

        That is the highest `y` bits, by the sign, or the lowest -`y`, by zeros.
        """
        left, ones = self.y[31], Const((1 << 32) - 1, 32)
        kept = Signal(32)
        # Left by -y keeps all but the lowest -y: the highest 32 + y, where y is its lowest five bits.
        m.d.comb += kept.eq(Mux(left, ~(ones >> self.y[:5]), ones >> self.y[:4]))
        turned: Value = self.x.as_unsigned()
        for bit in range(5):
            turned = Mux(self.y[bit], turned.rotate_right(1 << bit), turned)
        sign = self.x[31] & ~left
        return (turned & kept) | (sign.replicate(32) & ~kept)
