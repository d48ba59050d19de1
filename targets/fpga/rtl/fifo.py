"""A queue between two streams."""

from amaranth import Elaboratable, Module, Shape, ShapeLike, Value
from amaranth.lib import fifo, stream, wiring
from amaranth.lib.wiring import In, Out

SMALL = 16
"""Entries that are kept in registers."""


class Fifo(wiring.Component):
    """At least `depth` entries of `shape`; what is written can be read in the next cycle, or a few later."""

    def __init__(self, shape: ShapeLike, depth: int) -> None:
        self._shape, self._depth, self._large = shape, depth, depth > SMALL
        super().__init__({"write": In(stream.Signature(shape)), "read": Out(stream.Signature(shape))})

    def elaborate(self, platform: object) -> Elaboratable:
        """Amaranth's own: in registers where it is small, in block RAM where it is large.

        A small one stands behind a large one: what comes out of block RAM comes late in its cycle, and needs
        a register before any logic; and whether it is taken must not be known before the cycle ends.
        """
        m = Module()
        width = Shape.cast(self._shape).width
        m.submodules.queue = last = fifo.SyncFIFO(width=width, depth=2 if self._large else self._depth)
        first = last
        if self._large:
            m.submodules.block = first = fifo.SyncFIFOBuffered(width=width, depth=self._depth)
            m.d.comb += [
                last.w_data.eq(first.r_data),
                last.w_en.eq(first.r_rdy & last.w_rdy),
                first.r_en.eq(first.r_rdy & last.w_rdy),
            ]
        m.d.comb += [
            first.w_data.eq(Value.cast(self.write.payload)),
            first.w_en.eq(self.write.valid & first.w_rdy),
            self.write.ready.eq(first.w_rdy),
            Value.cast(self.read.payload).eq(last.r_data),
            self.read.valid.eq(last.r_rdy),
            last.r_en.eq(self.read.ready & last.r_rdy),
        ]
        return m
