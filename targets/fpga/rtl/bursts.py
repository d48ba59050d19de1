"""Rows of elements in DRAM as bursts of words."""

from amaranth import Array, Elaboratable, Module, Mux, Signal, Value
from amaranth.lib import data, stream, wiring
from amaranth.lib.wiring import In, Out

from optc.targets.fpga.rtl.cut import Cut, Run
from optc.targets.fpga.rtl.fifo import Pair
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
    empty: 1
    """There are no elements."""


class Bursts(wiring.Component):
    """Turns rows into bursts of at most `most` words.

    `logs`: for each of two kinds of elements, the base-2 logarithm of its bytes. Rows without elements make
    no bursts. Rows are taken before their bursts are asked for: `busy`, there are some; `length`: words of
    the burst that is asked for.
    """

    def __init__(self, logs: tuple[int, int], most: int = BURST_WORDS) -> None:
        self._logs, self._most = logs, most
        ports = {"rows": In(stream.Signature(Rows)), "requests": Out(requests())}
        super().__init__({**ports, "length": Out(range(most + 1)), "busy": Out(1)})

    def elaborate(self, platform: object) -> Elaboratable:
        """A row a cycle: where it begins and ends, how many words that is, and its bursts, a cycle each."""
        m = Module()
        m.submodules.cut = cut = Cut(self._most)
        wiring.connect(m, wiring.flipped(self.requests), cut.requests)
        m.d.comb += self.length.eq(cut.length)
        m.submodules.runs = runs = Pair(Run)
        wiring.connect(m, runs.read, cut.runs)
        rows = self.rows.payload
        following, left, active = Signal(32), Signal(16), Signal()  # rows behind the first
        start, more = Signal(32), Signal(16)
        first, behind = Signal(29, reset_less=True), Signal(29, reset_less=True)
        placed = Signal()
        m.d.comb += [start.eq(Mux(active, following, rows.dram)), more.eq(Mux(active, left, rows.y_size))]
        places = ~placed | runs.write.ready
        m.d.comb += [runs.write.valid.eq(placed), runs.write.payload.word.eq(first)]
        m.d.comb += runs.write.payload.words.eq(behind - first)
        with m.If(places):
            m.d.sync += [placed.eq(self.rows.valid & ~rows.empty), *self._words(m, start, first, behind)]
            with m.If(self.rows.valid & ~rows.empty):
                m.d.sync += [following.eq(start + rows.x_stride), left.eq(more - 1), active.eq(more != 1)]
        m.d.comb += self.busy.eq(placed | runs.read.valid | cut.requests.valid)
        m.d.comb += self.rows.ready.eq(rows.empty | (places & (more == 1)))
        return m

    def _words(self, m: Module, start: Signal, first: Signal, behind: Signal) -> list[object]:
        """The first word of the row that begins at element `start`, and the one behind its last."""
        rows = self.rows.payload
        end = Signal(32)
        m.d.comb += end.eq(start + rows.x_size)
        firsts = Array([(start << log)[3:32] for log in self._logs])
        lasts = Array([((end << log) + 7)[3:32] for log in self._logs])
        return [first.eq(firsts[rows.kind]), behind.eq(lasts[rows.kind])]


def fill_rows(rows: data.View, insn: data.View, kind: Value) -> list[object]:
    """The rows of a LOAD or STORE instruction."""
    return [
        *(rows[name].eq(insn[name]) for name in ("dram", "y_size", "x_size", "x_stride")),
        rows.kind.eq(kind),
        rows.empty.eq((insn.x_size == 0) | (insn.y_size == 0)),
    ]
