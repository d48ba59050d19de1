"""A counter of tokens: what one module gives and another takes."""

from amaranth import Elaboratable, Module
from amaranth.lib import wiring
from amaranth.lib.wiring import In, Out

LIMIT = 255
"""Tokens that may be outstanding, as in the original RTL."""


class TokenCounter(wiring.Component):
    """`give` adds a token, `take` removes one; `available` says that there is one.

    `level`: how many there are. `overflow` is raised when one is given that the counter cannot hold. A token
    given in a cycle can be taken in the next.
    """

    give: In(1)
    take: In(1)
    available: Out(1)
    level: Out(range(LIMIT + 1))
    overflow: Out(1)

    def elaborate(self, platform: object) -> Elaboratable:
        """Count."""
        m = Module()
        level = self.level
        m.d.comb += self.available.eq(level != 0)
        m.d.comb += self.overflow.eq(self.give & ~self.take & (level == LIMIT))
        with m.If(self.give & ~self.take & ~self.overflow):
            m.d.sync += level.eq(level + 1)
        with m.Elif(self.take & ~self.give & self.available):
            m.d.sync += level.eq(level - 1)
        return m
