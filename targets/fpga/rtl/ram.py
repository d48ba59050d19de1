"""Memory on the chip in the place of DRAM: a word a cycle out, and a word a cycle in."""

from collections.abc import Sequence

from amaranth import Array, Elaboratable, Module, Mux, Signal
from amaranth.lib import stream, wiring
from amaranth.lib.memory import Memory
from amaranth.lib.wiring import In, Out

from optc.targets.fpga.boards.board import BANK_BYTES
from optc.targets.fpga.rtl.fifo import Fifo, Pair
from optc.targets.fpga.rtl.layouts import WORD_BYTES, Beat, Request, beats, requests
from optc.targets.fpga.rtl.store import WriteWord

BANK = BANK_BYTES // WORD_BYTES
"""Words of a bank. Where a block RAM holds few bits of many words, few wires lead to it."""
LATENCY = 4
"""Cycles from an index to its word: a register before the banks, which are many and far, the memory, its
register, and a register behind the choice of a bank."""
AHEAD = 8
"""Words that were read and are not yet taken."""


class Ram(wiring.Component):
    """`banks` of `BANK` words of 64 bits, at word addresses from `first` on; `init`: the first words.

    `reads`, `beats`, `writes`, `words` and `answer` are the core's; `fault`: a word beyond the memory was
    asked for. While the core is idle, `host_index` is read (`host_value`, `LATENCY` cycles later), and where
    a bit of `host_strobe` is one, that byte of `host_data` written.
    """

    def __init__(self, first: int, banks: int, init: Sequence[int] = ()) -> None:
        self._first, self._banks, self._init = first, banks, list(init)
        self.index_bits = (banks * BANK - 1).bit_length()
        super().__init__(
            {
                "reads": In(requests()),
                "beats": Out(beats()),
                "writes": In(requests()),
                "words": In(stream.Signature(WriteWord)),
                "answer": Out(1),
                "fault": Out(1),
                "host_index": In(self.index_bits),
                "host_strobe": In(8),
                "host_data": In(64),
                "host_value": Out(64),
            }
        )

    def elaborate(self, platform: object) -> Elaboratable:
        """Reads, writes, and the banks between them."""
        m = Module()
        read_index, value = (Signal(n, reset_less=True) for n in (self.index_bits, 64))
        write_index, data = (Signal(n, reset_less=True) for n in (self.index_bits, 64))
        strobe = Signal(8)
        read_fault, write_fault = Signal(), Signal()
        self._read(m, read_index, value, read_fault)
        self._write(m, write_index, strobe, data, write_fault)
        m.d.comb += [self.host_value.eq(value), self.fault.eq(read_fault | write_fault)]
        self._memory(m, read_index, value, write_index, strobe, data)
        return m

    def _memory(
        self, m: Module, read: Signal, value: Signal, write: Signal, strobe: Signal, data: Signal
    ) -> None:
        within = (BANK - 1).bit_length()
        registers = []
        for bank in range(self._banks):
            words = self._init[bank * BANK : (bank + 1) * BANK]
            register = Signal(64, name=f"value{bank}", reset_less=True)
            for byte in range(8):
                init = [word >> 8 * byte & 255 for word in words]
                memory = Memory(shape=8, depth=BANK, init=init)
                m.submodules[f"bank{bank}_byte{byte}"] = memory
                reader, writer = memory.read_port(), memory.write_port()
                m.d.comb += [
                    reader.addr.eq(read[:within]),
                    writer.addr.eq(write[:within]),
                    writer.data.eq(data.word_select(byte, 8)),
                    writer.en.eq(strobe[byte] & (write[within:] == bank)),
                ]
                m.d.sync += register.word_select(byte, 8).eq(reader.data)
            registers.append(register)
        choice = [Signal(max(1, self.index_bits - within), name=f"choice{n}") for n in range(2)]
        m.d.sync += [choice[0].eq(read[within:]), choice[1].eq(choice[0])]
        m.d.sync += value.eq(Array(registers)[choice[1]])

    def _index(self, word: Signal) -> tuple[Signal, Signal]:
        """Where a word address lies, and whether it lies beyond the memory."""
        index = word - self._first
        return index[: self.index_bits], (word < self._first) | (index >= self._banks * BANK)

    def _read(self, m: Module, index: Signal, value: Signal, fault: Signal) -> None:
        m.submodules.ahead = ahead = Fifo(Beat, AHEAD)
        m.submodules.given = given = Pair(Beat)
        wiring.connect(m, ahead.read, given.write)
        wiring.connect(m, given.read, wiring.flipped(self.beats))
        m.submodules.asked = asked = Pair(Request)
        wiring.connect(m, wiring.flipped(self.reads), asked.write)
        word, more, active = Signal(29), Signal(8), Signal()
        free = Signal(range(AHEAD + 1), init=AHEAD)
        ask, last = Signal(), Signal()
        m.d.comb += [ask.eq(active & (free != 0)), last.eq(more == 0)]
        m.d.comb += asked.read.ready.eq(~active | (ask & last))
        with m.If(ask):
            m.d.sync += [word.eq(word + 1), more.eq(more - 1), active.eq(~last)]
        with m.If(asked.read.valid & asked.read.ready):
            m.d.sync += [word.eq(asked.read.payload.word), more.eq(asked.read.payload.more), active.eq(1)]
        taken = ahead.read.valid & ahead.read.ready
        m.d.sync += free.eq(free - ask + taken)
        where, beyond = self._index(word)
        m.d.sync += [index.eq(Mux(active, where, self.host_index)), fault.eq(ask & beyond)]
        coming, ends = Signal(LATENCY), Signal(LATENCY)
        m.d.sync += [coming.eq(coming << 1 | ask), ends.eq(ends << 1 | last)]
        m.d.comb += [
            ahead.write.valid.eq(coming[-1]),
            ahead.write.payload.data.eq(value),
            ahead.write.payload.last.eq(ends[-1]),
        ]

    def _write(self, m: Module, index: Signal, strobe: Signal, data: Signal, fault: Signal) -> None:
        m.submodules.told = told = Pair(Request)
        wiring.connect(m, wiring.flipped(self.writes), told.write)
        m.submodules.words = given = Pair(WriteWord)
        wiring.connect(m, wiring.flipped(self.words), given.write)
        words = given.read
        word, active = Signal(29), Signal()
        taken, last = Signal(), Signal()
        piece = words.payload.piece
        m.d.comb += [taken.eq(active & words.valid), last.eq(taken & words.payload.last)]
        m.d.comb += [words.ready.eq(active), told.read.ready.eq(~active | last), self.answer.eq(last)]
        with m.If(taken):
            m.d.sync += [word.eq(word + 1), active.eq(~last)]
        with m.If(told.read.valid & told.read.ready):
            m.d.sync += [word.eq(told.read.payload.word), active.eq(1)]
        where, beyond = self._index(word)
        m.d.sync += fault.eq(taken & beyond)
        with m.If(active):
            m.d.sync += [
                index.eq(where),
                data.eq(piece.data),
                strobe.eq(Mux(taken & ~beyond, piece.strobe, 0)),
            ]
        with m.Else():
            m.d.sync += [index.eq(self.host_index), data.eq(self.host_data), strobe.eq(self.host_strobe)]
