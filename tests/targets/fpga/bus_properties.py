"""Designs with assertions about AXI: the arbiter, the store module, the whole core; see `properties`."""

from typing import Any

from amaranth import Cat, Module, Mux, Signal, Value
from amaranth.hdl import Assert, Assume
from amaranth.lib import data, stream, wiring
from amaranth.lib.wiring import In, Out
from properties import Checked, before, held, passes

from optc.targets.fpga.rtl.arbiter import OUTSTANDING
from optc.targets.fpga.rtl.layouts import beats, instruction_layout, requests
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


class Asked(Checked):
    """What an arbiter asks of memory is what one of three clients asked a cycle before, and stays."""

    requests: Out(requests())
    beats: In(beats())
    requests0: In(requests())
    requests1: In(requests())
    requests2: In(requests())
    readies: In(3)
    mark: In(1)

    def __init__(self, arbiter: Any) -> None:
        self._arbiter = arbiter.Arbiter(3)
        super().__init__()

    def connect(self, m: Module) -> tuple[Signal, list[Any]]:
        """Which clients' requests are taken in this cycle, and what they asked."""
        m.submodules.arbiter = arbiter = self._arbiter
        wiring.connect(m, arbiter.requests, wiring.flipped(self.requests))
        wiring.connect(m, wiring.flipped(self.beats), arbiter.beats)
        asked = [getattr(arbiter, f"requests{n}") for n in range(3)]
        for n, request in enumerate(asked):
            wiring.connect(m, wiring.flipped(getattr(self, f"requests{n}")), request)
            m.d.comb += getattr(arbiter, f"beats{n}").ready.eq(self.readies[n])
        grant = Signal(3)
        m.d.comb += grant.eq(Cat(passes(r) for r in asked))
        return grant, asked

    def check(self, m: Module) -> None:
        grant, asked = self.connect(m)
        held(m, self.requests)
        m.d.comb += Assert((grant & (grant - 1)[:3]) == 0)
        for n, request in enumerate(asked):
            granted, burst = before(m, grant[n]), before(m, request.payload)
            with m.If(granted):
                m.d.comb += Assert(self.requests.valid & (Value.cast(self.requests.payload) == burst))


class Answered(Asked):
    """Any one burst: whoever asked for it gets its words, and nobody else."""

    def check(self, m: Module) -> None:
        grant, _ = self.connect(m)
        follows, ahead, who = Signal(), Signal(range(OUTSTANDING + 1)), Signal(3)
        open_bursts = Signal(range(OUTSTANDING + 2))
        ends = passes(self.beats) & self.beats.payload.last
        m.d.sync += open_bursts.eq(open_bursts + grant.any() - ends)
        with m.If(ends):
            m.d.sync += [ahead.eq(ahead - 1), follows.eq(follows & (ahead != 0))]
        with m.If(grant.any() & self.mark & ~follows):
            m.d.sync += [follows.eq(1), ahead.eq(open_bursts - ends), who.eq(grant)]
        # Memory answers what was asked, and no more.
        m.d.comb += Assume(~self.beats.valid | (open_bursts > self.requests.valid))
        with m.If(follows & self.beats.valid & (ahead == 0)):
            m.d.comb += Assert(Cat(getattr(self._arbiter, f"beats{n}").valid for n in range(3)) == who)
            m.d.comb += Assert(self.beats.ready == (who & self.readies).any())
