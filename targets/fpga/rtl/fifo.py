"""A queue between two streams."""

from amaranth import Elaboratable, Module, Mux, Shape, ShapeLike, Signal, Value
from amaranth.lib import fifo, stream, wiring
from amaranth.lib.wiring import In, Out

SMALL = 16
"""Entries that are kept in registers."""


class Pair(wiring.Component):
    """Two entries of `shape`, of which `level` are taken, in registers at both ends."""

    def __init__(self, shape: ShapeLike) -> None:
        self._shape = shape
        ends = {"write": In(stream.Signature(shape)), "read": Out(stream.Signature(shape))}
        super().__init__({**ends, "level": Out(range(3))})

    def elaborate(self, platform: object) -> Elaboratable:
        """The second entry is used while what is first was not taken."""
        m = Module()
        given, out = self.write, self.read
        width = Shape.cast(self._shape).width
        # Only what says that there is something is reset: a reset that goes everywhere is slow.
        first, second = Signal(width, reset_less=True), Signal(width, reset_less=True)
        full = Signal()
        m.d.comb += Value.cast(out.payload).eq(first)
        m.d.comb += [given.ready.eq(~full), self.level.eq(out.valid + full)]
        with m.If(~out.valid | out.ready):
            m.d.sync += [out.valid.eq(full | given.valid), full.eq(0)]
            m.d.sync += first.eq(Mux(full, second, Value.cast(given.payload)))
        with m.Elif(given.valid & ~full):
            m.d.sync += [second.eq(Value.cast(given.payload)), full.eq(1)]
        return m


class Fifo(wiring.Component):
    """`depth` entries of `shape`, of which `level` are taken; of more than `SMALL`, two more.

    What is written in a cycle can be read in the next, or a few later.
    """

    def __init__(self, shape: ShapeLike, depth: int) -> None:
        self._shape, self._depth = shape, depth
        self.pair = Pair(shape) if depth > SMALL else None
        ends = {"write": In(stream.Signature(shape)), "read": Out(stream.Signature(shape))}
        super().__init__({**ends, "level": Out(range(depth + 3))})

    def elaborate(self, platform: object) -> Elaboratable:
        """Amaranth's own: in registers where it is small, in block RAM where it is large.

        A pair stands behind a large one: what comes out of block RAM comes late in its cycle.
        """
        m = Module()
        pair = self.pair
        kind = fifo.SyncFIFOBuffered if pair else fifo.SyncFIFO
        m.submodules.queue = queue = kind(width=Shape.cast(self._shape).width, depth=self._depth)
        read, more = self.read, Value.cast(0)
        if pair:
            m.submodules.pair = pair
            wiring.connect(m, pair.read, wiring.flipped(self.read))
            read, more = pair.write, pair.level
        m.d.comb += [
            queue.w_data.eq(Value.cast(self.write.payload)),
            queue.w_en.eq(self.write.valid & queue.w_rdy),
            self.write.ready.eq(queue.w_rdy),
            Value.cast(read.payload).eq(queue.r_data),
            read.valid.eq(queue.r_rdy),
            queue.r_en.eq(read.ready & queue.r_rdy),
            self.level.eq(queue.level + more),
        ]
        return m
