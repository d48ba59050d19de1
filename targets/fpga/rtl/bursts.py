"""Rows of elements in DRAM as bursts of words."""

from amaranth import Array, Elaboratable, Module, Mux, Signal, Value
from amaranth.lib import data, stream, wiring
from amaranth.lib.wiring import In, Out

from optc.targets.fpga.rtl.layouts import requests

BURST_WORDS = 256
"""AXI's limit; a burst never crosses a multiple of it (2 KiB)."""


class Rows(data.Struct):
    """`y_size` rows of `x_size` elements, `x_stride` apart, from element `dram` on."""

    dram: 32
    y_size: 16
    x_size: 16
    x_stride: 16
    kind: 1
    """Which of the two memories the elements belong to."""


class Bursts(wiring.Component):
    """Turns rows into bursts of at most `most` words.

    `logs`: for each of two kinds of elements, the base-2 logarithm of its bytes. Rows without elements make
    no bursts.
    """

    def __init__(self, logs: tuple[int, int], most: int = BURST_WORDS) -> None:
        self._logs, self._most = logs, most
        super().__init__({"rows": In(stream.Signature(Rows)), "requests": Out(requests())})

    def elaborate(self, platform: object) -> Elaboratable:
        """Row by row: its first word and its words, then bursts until none are left."""
        m = Module()
        rows, out = self.rows.payload, self.requests
        start, left = Signal(32), Signal(16)
        word, words = Signal(29), Signal(24)
        first, behind = self._words(m, start, rows)
        room = Signal(range(self._most + 1))
        length = Signal(range(self._most + 1))
        m.d.comb += room.eq(self._most - word[: self._most.bit_length() - 1])
        m.d.comb += length.eq(Mux(words < room, words, room))
        m.d.comb += [out.payload.word.eq(word), out.payload.more.eq(length - 1)]
        with m.FSM():
            with m.State("IDLE"):
                m.d.sync += [start.eq(rows.dram), left.eq(rows.y_size)]
                with m.If(self.rows.valid):
                    with m.If((rows.x_size == 0) | (rows.y_size == 0)):
                        m.d.comb += self.rows.ready.eq(1)
                    with m.Else():
                        m.next = "ROW"
            with m.State("ROW"):
                m.d.sync += [word.eq(first), words.eq(behind - first)]
                m.d.sync += [start.eq(start + rows.x_stride), left.eq(left - 1)]
                m.next = "BURST"
            with m.State("BURST"):
                m.d.comb += out.valid.eq(1)
                with m.If(out.ready):
                    m.d.sync += [word.eq(word + length), words.eq(words - length)]
                    with m.If(words == length):
                        with m.If(left == 0):
                            m.d.comb += self.rows.ready.eq(1)
                            m.next = "IDLE"
                        with m.Else():
                            m.d.sync += [word.eq(first), words.eq(behind - first)]
                            m.d.sync += [start.eq(start + rows.x_stride), left.eq(left - 1)]
        return m

    def _words(self, m: Module, start: Signal, rows: data.View) -> tuple[Signal, Signal]:
        """The first word of the row that begins at element `start`, and the one behind its last."""
        first, behind = Signal(29), Signal(29)
        end = Signal(32)
        m.d.comb += end.eq(start + rows.x_size)
        firsts = Array([(start << log)[3:32] for log in self._logs])
        lasts = Array([((end << log) + 7)[3:32] for log in self._logs])
        m.d.comb += [first.eq(firsts[rows.kind]), behind.eq(lasts[rows.kind])]
        return first, behind


def fill_rows(rows: data.View, insn: data.View, kind: Value) -> list[object]:
    """The rows of a LOAD or STORE instruction."""
    return [
        *(rows[name].eq(insn[name]) for name in ("dram", "y_size", "x_size", "x_stride")),
        rows.kind.eq(kind),
    ]
