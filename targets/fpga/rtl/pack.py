"""Elements into words: what a STORE writes."""

from amaranth import Elaboratable, Module, Mux, Signal
from amaranth.lib import data, stream, wiring
from amaranth.lib.wiring import In, Out


class Piece(data.Struct):
    """A word to be written, and which of its bytes."""

    data: 64
    strobe: 8


class Pack(wiring.Component):
    """Rows of elements of 2**`log` words (-1: half a word) as words.

    `rows` says of each row how many elements it has and where the first lies in its word.
    """

    def __init__(self, log: int) -> None:
        self._log = log
        self._bits = 64 << log if log >= 0 else 32
        super().__init__(
            {
                "elements": In(stream.Signature(self._bits)),
                "count": In(16),
                "phase": In(1),
                "begin": In(1),
                "words": Out(stream.Signature(Piece)),
            }
        )

    def elaborate(self, platform: object) -> Elaboratable:
        """Whole elements word by word; halves are put together, where two follow each other in a row."""
        m = Module()
        (self._split if self._log >= 0 else self._join)(m)
        return m

    def _split(self, m: Module) -> None:
        parts = 1 << self._log
        part = Signal(range(parts)) if parts > 1 else Signal()
        last = part == parts - 1 if parts > 1 else 1
        m.d.comb += [
            self.words.payload.data.eq(self.elements.payload.word_select(part, 64)),
            self.words.payload.strobe.eq(-1),
            self.words.valid.eq(self.elements.valid),
            self.elements.ready.eq(self.words.ready & last),
        ]
        if parts > 1:
            with m.If(self.words.valid & self.words.ready):
                m.d.sync += part.eq(part + 1)

    def _join(self, m: Module) -> None:
        """`begin`: a row of `count` elements comes next, the first of them at `phase`."""
        left, phase = Signal(16), Signal()
        kept, has = Signal(32), Signal()
        element = self.elements.payload
        complete = phase | (left == 1)
        out = self.words
        m.d.comb += [
            out.payload.data.eq(Mux(phase, kept | element << 32, element)),
            out.payload.strobe.eq(Mux(phase, has.replicate(4) | 0xF0, 0x0F)),
            out.valid.eq(self.elements.valid & complete & (left != 0)),
            self.elements.ready.eq((left != 0) & (~complete | out.ready)),
        ]
        with m.If(self.elements.valid & self.elements.ready):
            m.d.sync += [left.eq(left - 1), phase.eq(~phase), kept.eq(Mux(phase, 0, element)), has.eq(~phase)]
        with m.If(self.begin):
            m.d.sync += [left.eq(self.count), phase.eq(self.phase), kept.eq(0), has.eq(0)]
