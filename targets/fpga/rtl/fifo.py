"""A queue between two streams."""

from amaranth import Elaboratable, Module, ShapeLike
from amaranth.lib import fifo, stream, wiring
from amaranth.lib.wiring import In, Out


class Fifo(wiring.Component):
    """`depth` entries of `shape`, of which `level` are taken.

    What is written in a cycle can be read in the next, or a few later.
    """

    def __init__(self, shape: ShapeLike, depth: int) -> None:
        self._shape, self._depth = shape, depth
        ends = {"write": In(stream.Signature(shape)), "read": Out(stream.Signature(shape))}
        super().__init__({**ends, "level": Out(range(depth + 1))})

    def elaborate(self, platform: object) -> Elaboratable:
        """Amaranth's own: in registers where it is small, in block RAM where it is large."""
        from amaranth import Shape, Value

        m = Module()
        kind = fifo.SyncFIFO if self._depth <= 16 else fifo.SyncFIFOBuffered
        m.submodules.fifo = queue = kind(width=Shape.cast(self._shape).width, depth=self._depth)
        m.d.comb += [
            queue.w_data.eq(Value.cast(self.write.payload)),
            queue.w_en.eq(self.write.valid & queue.w_rdy),
            self.write.ready.eq(queue.w_rdy),
            Value.cast(self.read.payload).eq(queue.r_data),
            self.read.valid.eq(queue.r_rdy),
            queue.r_en.eq(self.read.ready & queue.r_rdy),
            self.level.eq(queue.level),
        ]
        return m
