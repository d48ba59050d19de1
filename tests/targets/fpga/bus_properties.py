"""Designs with assertions about AXI: the whole core, and its store module; see `properties`."""

from typing import Any

from amaranth import Cat, Module, Mux, Signal
from amaranth.hdl import Assert, Assume
from amaranth.lib import data, stream, wiring
from amaranth.lib.wiring import In, Out
from properties import Checked, before, held, passes

from optc.targets.fpga.rtl.layouts import instruction_layout, requests
from optc.targets.fpga.rtl.store import WriteWord
from optc.targets.vta.config import Config
from optc.targets.vta.isa import Opcode

CONFIG = Config(
    log_block=2, log_uop_buff_size=4, log_inp_buff_size=4, log_wgt_buff_size=6, log_acc_buff_size=6
)
PAGE_WORDS = 512
"""4 KiB, which no burst crosses (IHI 0022, A3.4.1)."""


class Bus(Checked):
    """What the core asks and writes stays, in bursts within 4 KiB.

    The program, its data and the time that memory takes are free.
    """

    def __init__(self, axi: Any) -> None:
        self._core = axi.VtaAxi(CONFIG, queue=2)
        ends = {"arready": 1, "awready": 1, "wready": 1, "rvalid": 1, "rlast": 1, "rdata": 64, "bvalid": 1}
        super().__init__({name: In(bits) for name, bits in {**ends, "count": 22, "address": 32}.items()})

    def check(self, m: Module) -> None:
        m.submodules.core = core = self._core
        for name in ("arready", "awready", "wready", "rvalid", "rlast", "rdata", "bvalid", "count"):
            m.d.comb += getattr(core, name).eq(getattr(self, name))
        started = Signal()
        m.d.sync += started.eq(1)
        m.d.comb += [core.launch.eq(~started), core.address.eq(self.address[4:] << 4)]
        for channel, parts in (
            ("ar", ("addr", "len")),
            ("aw", ("addr", "len")),
            ("w", ("data", "strb", "last")),
        ):
            valid, ready = getattr(core, f"{channel}valid"), getattr(core, f"{channel}ready")
            shown = Cat(getattr(core, f"{channel}{part}") for part in parts)
            waits, old = before(m, valid & ~ready), before(m, shown)
            with m.If(waits):
                m.d.comb += [Assert(valid), Assert(shown == old)]
        for channel in ("ar", "aw"):
            first, more = getattr(core, f"{channel}addr"), getattr(core, f"{channel}len")
            m.d.comb += Assert(~getattr(core, f"{channel}valid") | (first[3:12] + more < PAGE_WORDS))
        self._answers(m)

    def _answers(self, m: Module) -> None:
        """Memory answers what it was asked; a word that is written belongs to a burst that was asked for."""
        core = self._core
        reads, writes, answers = Signal(6), Signal(6), Signal(6)
        asked, ends = core.arvalid & core.arready, core.rvalid & core.rready & core.rlast
        m.d.sync += reads.eq(reads + asked - ends)
        new, written = core.awvalid & core.awready, core.wvalid & core.wready & core.wlast
        m.d.sync += [writes.eq(writes + new - written), answers.eq(answers + written - core.bvalid)]
        m.d.comb += [Assume(~core.rvalid | (reads != 0)), Assume(~core.bvalid | (answers != 0))]
        m.d.comb += Assert(~core.wvalid | (writes != 0))


class Writes(Checked):
    """Requests and words of a store stay; a word comes after its burst was asked for, the last one marked.

    One store of up to 3 rows of up to 3 elements, then nothing.
    """

    dram: In(12)
    y_size: In(2)
    x_size: In(2)
    x_stride: In(4)
    requests: Out(requests())
    words: Out(stream.Signature(WriteWord))
    answer: In(1)
    out_value: In(32)

    def __init__(self, store: Any) -> None:
        self._store = store.Store(CONFIG)
        super().__init__()

    def check(self, m: Module) -> None:
        m.submodules.store = store = self._store
        self._instruct(m, store.instructions)
        wiring.connect(m, store.requests, wiring.flipped(self.requests))
        wiring.connect(m, store.words, wiring.flipped(self.words))
        m.d.comb += [store.answer.eq(self.answer), store.out_value.eq(self.out_value)]
        held(m, self.requests)
        held(m, self.words)
        burst = self.requests.payload
        m.d.comb += Assert(~self.requests.valid | (burst.word[:9] + burst.more < PAGE_WORDS))
        self._counts(m)

    def _instruct(self, m: Module, instructions: Any) -> None:
        given, ended = Signal(), Signal()
        m.d.sync += [given.eq(1), ended.eq(ended | instructions.ready)]
        insn = data.View(instruction_layout(Opcode.STORE, CONFIG), instructions.payload)
        for name in ("dram", "y_size", "x_size", "x_stride"):
            kept = Signal.like(getattr(self, name), name=f"kept_{name}")
            m.d.comb += insn[name].eq(kept)
            with m.If(~given):
                m.d.sync += kept.eq(getattr(self, name))
        m.d.comb += instructions.valid.eq(given & ~ended)

    def _counts(self, m: Module) -> None:
        """Words that were asked for and are not yet written; whether a burst's end is due."""
        asked, written, ends = passes(self.requests), passes(self.words), self.words.payload.last
        bursts, words, answers = Signal(5), Signal(13), Signal(5)
        m.d.sync += [
            bursts.eq(bursts + asked - (written & ends)),
            words.eq(words + Mux(asked, self.requests.payload.more + 1, 0) - written),
            answers.eq(answers + (written & ends) - self.answer),
        ]
        m.d.comb += Assume(~self.answer | (answers != 0))
        with m.If(self.words.valid):
            m.d.comb += [Assert(bursts != 0), Assert(words >= bursts)]
            # Of the last burst that was asked for, the last word is the last of all.
            m.d.comb += Assert(ends | (words > bursts))
            m.d.comb += Assert(~ends | (bursts != 1) | (words == 1))
