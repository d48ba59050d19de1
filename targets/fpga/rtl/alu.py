"""One lane of the tensor ALU."""

from amaranth import Elaboratable, Module, Mux, Signal, signed
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
        right, left = Signal(4), Signal(5)
        m.d.comb += [less.eq(self.x < self.y), right.eq(self.y[:4]), left.eq(-self.y[:5])]
        with m.Switch(self.op):
            with m.Case(AluOp.MIN.value):
                m.d.comb += self.result.eq(Mux(less, self.x, self.y))
            with m.Case(AluOp.MAX.value):
                m.d.comb += self.result.eq(Mux(less, self.y, self.x))
            with m.Case(AluOp.ADD.value):
                m.d.comb += self.result.eq(self.x + self.y)
            with m.Case(AluOp.SHR.value):
                m.d.comb += self.result.eq(Mux(self.y[31], self.x << left, self.x >> right))
                m.d.comb += self.refused.eq((self.y < -16) | (self.y > 15))
        return m
