"""Fetch: the instruction stream from DRAM into the queues of the three modules."""

from amaranth import Cat, Elaboratable, Module, Mux, Signal
from amaranth.lib import data, stream, wiring
from amaranth.lib.wiring import In, Out

from optc.targets.fpga.rtl.cut import Cut
from optc.targets.fpga.rtl.fifo import Fifo, Pair
from optc.targets.fpga.rtl.form import Form
from optc.targets.fpga.rtl.layouts import INSTRUCTION_BITS, Beat, Request, beats, instruction_layout, requests
from optc.targets.vta.config import Config, Memory
from optc.targets.vta.isa import Opcode

BURST = 32
"""The longest burst in words: sixteen instructions."""
ROOM = 64
"""Words that wait for a queue with room."""


class Formed(data.Struct):
    """An instruction, and whether it is the program's last."""

    bits: INSTRUCTION_BITS
    last: 1


class Fetch(wiring.Component):
    """From `start` on, reads `count` instructions from byte `address`, a multiple of 16, into their queues.

    `refused`: an instruction that VTA does not define.
    """

    def __init__(self, config: Config) -> None:
        self._config = config
        queue = stream.Signature(INSTRUCTION_BITS)
        super().__init__(
            {
                "start": In(1),
                "address": In(32),
                "count": In(22),
                "requests": Out(requests()),
                "beats": In(beats()),
                "load": Out(queue),
                "compute": Out(queue),
                "store": Out(queue),
                "refused": Out(1),
            }
        )

    def elaborate(self, platform: object) -> Elaboratable:
        """Bursts are asked for as far as there is room; two words make an instruction."""
        m = Module()
        m.submodules.words = words = Fifo(Beat, ROOM)
        wiring.connect(m, wiring.flipped(self.beats), words.write)
        taken = Signal()
        self._ask(m, taken)
        m.submodules.formed = formed = Pair(Formed)
        low, half, left = Signal(64, reset_less=True), Signal(), Signal(22)
        given = formed.write
        m.d.comb += [
            given.payload.bits.eq(Cat(low, words.read.payload.data)),
            given.payload.last.eq(left == 1),
            given.valid.eq(half & words.read.valid),
            taken.eq(words.read.valid & (~half | given.ready)),
            words.read.ready.eq(taken),
        ]
        with m.If(taken):
            m.d.sync += [low.eq(words.read.payload.data), half.eq(~half)]
            with m.If(half):
                m.d.sync += left.eq(left - 1)
        with m.If(self.start):
            m.d.sync += [left.eq(self.count), half.eq(0)]
        self._route(m, formed.read)
        return m

    def _ask(self, m: Module, taken: Signal) -> None:
        """The whole stream is one run of words."""
        m.submodules.cut = cut = Cut(BURST)
        free = Signal(range(ROOM + 1), init=ROOM)
        # What is asked for passes a pair: whether there is room is known late in its cycle.
        m.submodules.asks = asks = Pair(Request)
        wiring.connect(m, asks.read, wiring.flipped(self.requests))
        out, length = asks.write, cut.length
        enough = free >= length
        m.d.comb += [
            out.payload.eq(cut.requests.payload),
            out.valid.eq(cut.requests.valid & enough),
            cut.requests.ready.eq(out.ready & enough),
        ]
        asked = out.valid & out.ready
        m.d.sync += free.eq(free - Mux(asked, length, 0) + taken)
        run = cut.runs
        with m.If(run.ready):
            m.d.sync += run.valid.eq(0)
        with m.If(self.start):
            m.d.sync += [run.payload.word.eq(self.address[3:]), run.payload.words.eq(self.count << 1)]
            m.d.sync += run.valid.eq(self.count != 0)

    def _route(self, m: Module, formed: wiring.PureInterface) -> None:
        """Each instruction goes to its module's queue; what no module takes is passed over."""
        insn, ready = formed.payload.bits, formed.ready
        load = data.View(instruction_layout(Opcode.LOAD, self._config), insn)
        m.d.comb += [queue.payload.eq(insn) for queue in (self.load, self.compute, self.store)]
        m.submodules.form = form = Form(self._config)
        m.d.comb += [form.instruction.eq(insn), form.last.eq(formed.payload.last)]
        m.d.comb += self.refused.eq(formed.valid & form.undefined)

        def to(queue: wiring.PureInterface) -> list[object]:
            return [queue.valid.eq(formed.valid), ready.eq(queue.ready)]

        with m.Switch(load.opcode):
            with m.Case(Opcode.LOAD.value), m.Switch(load.memory):
                with m.Case(Memory.INP.value, Memory.WGT.value):
                    m.d.comb += to(self.load)
                with m.Case(Memory.UOP.value, Memory.ACC.value):
                    m.d.comb += to(self.compute)
                with m.Default():
                    m.d.comb += ready.eq(1)
            with m.Case(Opcode.STORE.value):
                m.d.comb += to(self.store)
            with m.Case(Opcode.GEMM.value, Opcode.ALU.value, Opcode.FINISH.value):
                m.d.comb += to(self.compute)
            with m.Default():
                m.d.comb += ready.eq(1)
