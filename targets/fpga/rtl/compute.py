"""The compute module: micro-ops and accumulators from DRAM, GEMM and ALU, the end of the program."""

from amaranth import Cat, Elaboratable, Module, Mux, Signal
from amaranth.lib import data, stream, wiring
from amaranth.lib.wiring import In, Out

from optc.targets.fpga.rtl.bursts import Bursts, Rows, fill_rows
from optc.targets.fpga.rtl.fifo import Fifo, Pair
from optc.targets.fpga.rtl.layouts import (
    INSTRUCTION_BITS,
    Beat,
    Flags,
    Request,
    beats,
    instruction_layout,
    lanes,
    log_words,
    requests,
)
from optc.targets.fpga.rtl.loops import Loops, index_bits
from optc.targets.fpga.rtl.steps import Steps
from optc.targets.fpga.rtl.uops import Uops
from optc.targets.fpga.rtl.writer import Writer, fill_job
from optc.targets.vta.config import Config, Memory
from optc.targets.vta.isa import Opcode

AHEAD = 2
"""Instructions whose words are asked for while those before them run."""
BURST = 32
"""The longest burst in words: each is asked for only when there is room for it."""
ROOM = 128
"""Words that wait for the instruction that they belong to."""


class Compute(wiring.Component):
    """Runs instructions in order; the next begins while the one before drains.

    `retired` is raised with the `flags` of an instruction that ended; `steps`: one is in its loops. The
    memories INP and WGT are outside: `inp_index`, `wgt_index`, and their values two cycles later. OUT is read
    through `out_index`.
    """

    def __init__(self, config: Config) -> None:
        self._config = config
        count = config.batch * config.block
        super().__init__(
            {
                "instructions": In(stream.Signature(INSTRUCTION_BITS)),
                "requests": Out(requests()),
                "beats": In(beats()),
                "inp_index": Out(config.log_depth(Memory.INP)),
                "inp_value": In(lanes(count, 8)),
                "wgt_index": Out(index_bits(config)["wgt"]),
                "wgt_value": In(lanes(config.block**2, 8)),
                "out_index": In(config.log_depth(Memory.ACC)),
                "out_value": Out(8 * count),
                "retired": Out(1),
                "flags": Out(Flags),
                "steps": Out(1),
                "refused": Out(1),
            }
        )

    def elaborate(self, platform: object) -> Elaboratable:
        """A path that asks for words, and one that runs the instructions."""
        m = Module()
        config = self._config
        m.submodules.waiting = waiting = Pair(INSTRUCTION_BITS)
        m.submodules.rows = rows = Fifo(Rows, AHEAD)
        self._front(m, waiting, rows)
        words = self._words(m, rows)
        m.submodules.loops = loops = Loops(config)
        m.submodules.steps = steps = Steps(config)
        m.submodules.uops = uops = Uops(config.depth(Memory.UOP))
        m.submodules.writer = writer = Writer((log_words(Memory.ACC, config),) * 2)
        self._memories(m, steps, uops, writer)
        self._run(m, waiting, words, loops, steps, uops, writer)
        beyond = writer.write0.enable.any() & (writer.write0.index >= config.depth(Memory.ACC))
        m.d.comb += [
            self.retired.eq(steps.retired),
            self.flags.eq(steps.flags),
            self.steps.eq(loops.valid),
        ]
        early = Signal()
        m.d.sync += early.eq(Cat(uops.overrun, writer.overrun, loops.refused, beyond).any())
        m.d.comb += self.refused.eq(early | steps.refused)
        return m

    def _front(self, m: Module, waiting: Pair, rows: Fifo) -> None:
        """Every instruction waits for its turn; the rows of a load are asked for at once."""
        load = data.View(instruction_layout(Opcode.LOAD, self._config), self.instructions.payload)
        is_load = load.opcode == Opcode.LOAD
        room = waiting.write.ready & (rows.write.ready | ~is_load)
        m.d.comb += [
            self.instructions.ready.eq(room),
            waiting.write.payload.eq(self.instructions.payload),
            waiting.write.valid.eq(self.instructions.valid & room),
            rows.write.valid.eq(self.instructions.valid & room & is_load),
            *fill_rows(rows.write.payload, load, load.memory == Memory.ACC),
        ]

    def _words(self, m: Module, rows: Fifo) -> Fifo:
        """The words that loads will need, as far as there is room for them."""
        m.submodules.bursts = bursts = Bursts((2, log_words(Memory.ACC, self._config) + 3), BURST)
        m.submodules.words = words = Fifo(Beat, ROOM)
        wiring.connect(m, rows.read, bursts.rows)
        wiring.connect(m, wiring.flipped(self.beats), words.write)
        free = Signal(range(ROOM + 1), init=ROOM)
        enough = Signal()
        length = bursts.length
        # What is asked for passes a pair: whether there is room is known late in its cycle.
        m.submodules.asks = asks = Pair(Request)
        wiring.connect(m, asks.read, wiring.flipped(self.requests))
        m.d.comb += [
            enough.eq(free >= length),
            asks.write.payload.eq(bursts.requests.payload),
            asks.write.valid.eq(bursts.requests.valid & enough),
            bursts.requests.ready.eq(asks.write.ready & enough),
        ]
        asked = asks.write.valid & asks.write.ready
        taken = words.read.valid & words.read.ready
        m.d.sync += free.eq(free - Mux(asked, length, 0) + taken)
        return words

    def _memories(self, m: Module, steps: Steps, uops: Uops, writer: Writer) -> None:
        m.d.comb += [
            uops.index.eq(steps.uop_index),
            steps.uop_value.eq(uops.value),
            self.inp_index.eq(steps.inp_index),
            steps.inp_value.eq(self.inp_value),
            self.wgt_index.eq(steps.wgt_index),
            steps.wgt_value.eq(self.wgt_value),
            steps.out_index.eq(self.out_index),
            self.out_value.eq(steps.out_value),
        ]
        wiring.connect(m, writer.write0, steps.acc_write)

    def _run(
        self,
        m: Module,
        waiting: Pair,
        words: Fifo,
        loops: Loops,
        steps: Steps,
        uops: Uops,
        writer: Writer,
    ) -> None:
        """Give the instruction whose turn it is to what runs it."""
        config = self._config
        insn = waiting.read
        load, gemm, alu = (
            data.View(instruction_layout(code, config), insn.payload)
            for code in (Opcode.LOAD, Opcode.GEMM, Opcode.ALU)
        )
        flags = Signal(Flags)
        m.d.comb += [
            flags.push_prev.eq(load.push_prev),
            flags.push_next.eq(load.push_next),
            flags.finish.eq(load.opcode == Opcode.FINISH),
        ]
        work = steps.work
        m.d.comb += [
            work.operation.eq(loops.work.operation),
            work.flags.eq(loops.work.flags),
            work.step.eq(loops.step),
            work.works.eq(loops.valid),
            work.ends.eq(loops.valid & loops.step.last),
        ]
        is_gemm, is_alu = load.opcode == Opcode.GEMM, load.opcode == Opcode.ALU
        m.d.comb += [
            loops.nests.payload[name].eq(gemm[name])
            for name in (
                "uop_begin",
                "uop_end",
                "iter_out",
                "iter_in",
                "dst_out",
                "dst_in",
                "src_out",
                "src_in",
            )
        ]
        m.d.comb += [loops.nests.payload[n].eq(Mux(is_gemm, gemm[n], 0)) for n in ("wgt_out", "wgt_in")]
        does = loops.nests.payload.work
        m.d.comb += [
            does.flags.eq(flags),
            does.operation.gemm.eq(is_gemm),
            does.operation.reset.eq(gemm.reset),
            does.operation.op.eq(alu.op),
            does.operation.use_imm.eq(alu.use_imm),
            does.operation.imm.eq(alu.imm),
        ]
        job, uop_job = writer.jobs.payload, uops.jobs.payload
        m.d.comb += [*fill_job(job, load, 0), uop_job.sram.eq(load.sram), uop_job.odd.eq(load.dram[0])]
        m.d.comb += [uop_job.flags.eq(flags), uop_job.count.eq(Mux(load.y_size == 0, 0, load.x_size))]
        for target in (writer, uops):
            m.d.comb += [
                target.beats.payload.eq(words.read.payload),
                target.beats.valid.eq(words.read.valid),
            ]
        m.d.comb += words.read.ready.eq(writer.beats.ready | uops.beats.ready)
        m.d.comb += writer.hold.eq(steps.busy)
        bubble, given = Signal(), Signal(Flags)
        with m.If(bubble):
            m.d.comb += [work.ends.eq(1), work.flags.eq(given)]
        with m.FSM():
            with m.State("NEXT"), m.If(insn.valid):
                with m.If(is_gemm | is_alu):
                    m.d.comb += [loops.nests.valid.eq(1), insn.ready.eq(loops.nests.ready)]
                with m.Elif(~loops.busy):
                    m.d.comb += insn.ready.eq(1)
                    with m.If(load.opcode == Opcode.FINISH):
                        m.d.comb += [bubble.eq(1), given.eq(flags)]
                    with m.Elif(load.memory == Memory.UOP):
                        m.d.comb += uops.jobs.valid.eq(1)
                        m.next = "UOP"
                    with m.Else():
                        m.d.comb += writer.jobs.valid.eq(1)
                        m.next = "ACC"
            for name, target in (("UOP", uops), ("ACC", writer)):
                with m.State(name), m.If(target.done):
                    m.d.comb += [bubble.eq(1), given.eq(target.flags)]
                    m.next = "NEXT"
