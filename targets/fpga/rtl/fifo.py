"""A queue between two streams."""

from amaranth import Elaboratable, Module, ShapeLike
from amaranth.lib import fifo, stream, wiring
from amaranth.lib.wiring import In, Out

SMALL = 16
"""Entries that are kept in registers."""


class Fifo(wiring.Component):
    """At least `depth` entries of `shape`; what is written can be read in the next cycle, or a few later."""

    def __init__(self, shape: ShapeLike, depth: int) -> None:
        self._shape, self._depth = shape, depth
        super().__init__({"write": In(stream.Signature(shape)), "read": Out(stream.Signature(shape))})

    def elaborate(self, platform: object) -> Elaboratable:
        """Amaranth's own: in registers where it is small, in block RAM where it is large.

        What comes out of block RAM is registered before any logic: it comes late in its cycle.
        """
        from amaranth import Shape, Value

        m = Module()
        kind = fifo.SyncFIFO if self._depth <= SMALL else fifo.SyncFIFOBuffered
        m.submodules.fifo = queue = kind(width=Shape.cast(self._shape).width, depth=self._depth)
        m.d.comb += [
            queue.w_data.eq(Value.cast(self.write.payload)),
            queue.w_en.eq(self.write.valid & queue.w_rdy),
            self.write.ready.eq(queue.w_rdy),
        ]
        if self._depth <= SMALL:
            m.d.comb += [Value.cast(self.read.payload).eq(queue.r_data), self.read.valid.eq(queue.r_rdy)]
            m.d.comb += queue.r_en.eq(self.read.ready & queue.r_rdy)
        else:
            takes = ~self.read.valid | self.read.ready
            m.d.comb += queue.r_en.eq(takes & queue.r_rdy)
            with m.If(takes):
                m.d.sync += [Value.cast(self.read.payload).eq(queue.r_data), self.read.valid.eq(queue.r_rdy)]
        return m
