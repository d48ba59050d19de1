"""The store module: OUT to DRAM."""

from amaranth import Elaboratable, Module, Mux, Signal
from amaranth.lib import data, stream, wiring
from amaranth.lib.wiring import In, Out

from optc.targets.fpga.rtl.bursts import Bursts, fill_rows
from optc.targets.fpga.rtl.fifo import Fifo
from optc.targets.fpga.rtl.layouts import INSTRUCTION_BITS, Flags, instruction_layout, log_words, requests
from optc.targets.fpga.rtl.pack import Pack, Piece
from optc.targets.vta.config import Config, Memory
from optc.targets.vta.isa import Opcode

AHEAD = 8
"""Elements that were read and are not yet written."""
BURSTS = 16
"""Bursts that were asked for and are not yet written."""


class WriteWord(data.Struct):
    """A word of a burst that is written."""

    piece: Piece
    last: 1


class Store(wiring.Component):
    """Writes one store after another; `done` with its `flags` when memory has taken all of it.

    `requests`: bursts; `words`: their words; `answer`: memory has taken a burst.
    """

    def __init__(self, config: Config) -> None:
        self._config = config
        self._log = log_words(Memory.OUT, config)
        bits = 8 * config.batch * config.block
        super().__init__(
            {
                "instructions": In(stream.Signature(INSTRUCTION_BITS)),
                "requests": Out(requests()),
                "words": Out(stream.Signature(WriteWord)),
                "answer": In(1),
                "out_index": Out(config.log_depth(Memory.ACC)),
                "out_value": In(bits),
                "done": Out(1),
                "flags": Out(Flags),
                "busy": Out(1),
                "refused": Out(1),
            }
        )

    def elaborate(self, platform: object) -> Elaboratable:
        """Addresses, elements and words each go at their own pace; a store ends when all are through."""
        m = Module()
        insn = data.View(instruction_layout(Opcode.STORE, self._config), self.instructions.payload)
        m.submodules.bursts = bursts = Bursts((self._log + 3,) * 2)
        m.submodules.lengths = lengths = Fifo(8, BURSTS)
        m.submodules.pack = pack = Pack(self._log)
        asked, answered = Signal(), Signal()  # its bursts' rows were taken; memory has taken the bursts
        begin, open_bursts = Signal(), Signal(24)
        active = Signal()
        m.d.comb += fill_rows(bursts.rows.payload, insn, 0)
        m.d.comb += bursts.rows.valid.eq(active & ~asked)
        with m.If(bursts.rows.valid & bursts.rows.ready):
            m.d.sync += asked.eq(1)
        m.d.comb += [
            self.requests.payload.eq(bursts.requests.payload),
            self.requests.valid.eq(bursts.requests.valid & lengths.write.ready),
            bursts.requests.ready.eq(self.requests.ready & lengths.write.ready),
            lengths.write.payload.eq(bursts.requests.payload.more),
            lengths.write.valid.eq(bursts.requests.valid & self.requests.ready),
        ]
        new = lengths.write.valid & lengths.write.ready
        m.d.sync += open_bursts.eq(open_bursts + new - self.answer)
        self._elements(m, insn, pack, begin)
        self._words(m, pack, lengths)
        m.d.sync += answered.eq(active & asked & ~answered & ~bursts.busy & (open_bursts == 0))
        m.d.comb += [
            self.flags.push_prev.eq(insn.push_prev),
            self.flags.push_next.eq(insn.push_next),
            self.busy.eq(active),
        ]
        with m.If(~active & self.instructions.valid):
            m.d.comb += begin.eq(1)
            m.d.sync += [active.eq(1), asked.eq(0)]
        with m.If(answered):
            m.d.comb += [self.done.eq(1), self.instructions.ready.eq(1)]
            m.d.sync += active.eq(0)
        return m

    def _elements(self, m: Module, insn: data.View, pack: Pack, begin: Signal) -> None:
        """Read elements as far as there is room, in order."""
        bits = 8 * self._config.batch * self._config.block
        m.submodules.elements = elements = Fifo(bits, AHEAD)
        index, more = Signal(17), Signal()
        row, column = Signal(16), Signal(16)  # what is left, with the current one
        free = Signal(range(AHEAD + 1), init=AHEAD)
        coming = Signal(2)  # reads under way
        ask = more & (free != 0)
        taken = elements.read.valid & elements.read.ready
        m.d.comb += [
            self.out_index.eq(index),
            self.refused.eq(ask & (index >= self._config.depth(Memory.OUT))),
            elements.write.payload.eq(self.out_value),
            elements.write.valid.eq(coming[1]),
        ]
        m.d.sync += [coming.eq(coming << 1 | ask), free.eq(free - ask + taken)]
        with m.If(ask):
            m.d.sync += [index.eq(index + 1), column.eq(column - 1)]
            with m.If(column == 1):
                m.d.sync += [column.eq(insn.x_size), row.eq(row - 1), more.eq(row != 1)]
        with m.If(begin):
            m.d.sync += [index.eq(insn.sram), row.eq(insn.y_size), column.eq(insn.x_size)]
            m.d.sync += more.eq((insn.x_size != 0) & (insn.y_size != 0))
        wiring.connect(m, elements.read, pack.elements)
        self._rows(m, insn, pack, begin)

    def _rows(self, m: Module, insn: data.View, pack: Pack, begin: Signal) -> None:
        """Where each row begins in its word; matters only where two elements share one."""
        if self._log >= 0:
            return
        left, column, phase = Signal(16), Signal(16), Signal()
        taken = pack.elements.valid & pack.elements.ready
        m.d.comb += [pack.count.eq(insn.x_size), pack.phase.eq(Mux(begin, insn.dram[0], phase))]
        with m.If(begin):
            m.d.comb += pack.begin.eq(1)
            m.d.sync += [
                left.eq(insn.y_size),
                column.eq(insn.x_size),
                phase.eq(insn.dram[0] ^ insn.x_stride[0]),
            ]
        with m.Elif(taken):
            m.d.sync += column.eq(column - 1)
            with m.If(column == 1):
                m.d.comb += pack.begin.eq(left != 1)
                m.d.sync += [left.eq(left - 1), column.eq(insn.x_size), phase.eq(phase ^ insn.x_stride[0])]

    def _words(self, m: Module, pack: Pack, lengths: Fifo) -> None:
        """The words of the bursts, in order, with the last of each marked."""
        sent = Signal(8)
        last = sent == lengths.read.payload
        m.d.comb += [
            self.words.payload.piece.eq(pack.words.payload),
            self.words.payload.last.eq(last),
            self.words.valid.eq(pack.words.valid & lengths.read.valid),
            pack.words.ready.eq(self.words.ready & lengths.read.valid),
        ]
        with m.If(self.words.valid & self.words.ready):
            m.d.sync += sent.eq(Mux(last, 0, sent + 1))
            m.d.comb += lengths.read.ready.eq(last)
