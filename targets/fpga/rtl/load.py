"""The load module: INP and WGT from DRAM."""

from amaranth import Cat, Elaboratable, Module
from amaranth.lib import data, stream, wiring
from amaranth.lib.wiring import In, Out

from optc.targets.fpga.rtl.bursts import Bursts, Rows, fill_rows
from optc.targets.fpga.rtl.fifo import Fifo, Pair
from optc.targets.fpga.rtl.layouts import (
    INSTRUCTION_BITS,
    Flags,
    Request,
    beats,
    instruction_layout,
    log_words,
    requests,
)
from optc.targets.fpga.rtl.writer import Job, Writer, bank_signature, fill_job
from optc.targets.vta.config import Config, Memory
from optc.targets.vta.isa import Opcode

WAITING = 4
"""Loads whose words are on their way while others are being written."""


class Load(wiring.Component):
    """Asks for the words of one load after another, and writes them in the same order.

    `done` is raised with the `flags` of a load whose last word was written.
    """

    def __init__(self, config: Config) -> None:
        self._config = config
        self._logs = log_words(Memory.INP, config), log_words(Memory.WGT, config)
        super().__init__(
            {
                "instructions": In(stream.Signature(INSTRUCTION_BITS)),
                "requests": Out(requests()),
                "beats": In(beats()),
                "inp_write": Out(bank_signature(self._logs[0])),
                "wgt_write": Out(bank_signature(self._logs[1])),
                "done": Out(1),
                "flags": Out(Flags),
                "busy": Out(1),
                "refused": Out(1),
            }
        )

    def elaborate(self, platform: object) -> Elaboratable:
        """Each instruction goes to both: what asks for words, and what writes them."""
        m = Module()
        m.submodules.bursts = bursts = Bursts((self._logs[0] + 3, self._logs[1] + 3))
        m.submodules.rows = rows = Fifo(Rows, WAITING)
        m.submodules.jobs = jobs = Fifo(Job, WAITING)
        m.submodules.writer = writer = Writer(self._logs)
        insn = data.View(instruction_layout(Opcode.LOAD, self._config), self.instructions.payload)
        is_wgt = insn.memory == Memory.WGT
        ready = rows.write.ready & jobs.write.ready
        m.d.comb += [
            self.instructions.ready.eq(ready),
            rows.write.valid.eq(self.instructions.valid & jobs.write.ready),
            jobs.write.valid.eq(self.instructions.valid & rows.write.ready),
            *fill_rows(rows.write.payload, insn, is_wgt),
            *fill_job(jobs.write.payload, insn, is_wgt),
        ]
        wiring.connect(m, rows.read, bursts.rows)
        wiring.connect(m, jobs.read, writer.jobs)
        # Whether the arbiter takes a request is known late in its cycle.
        m.submodules.asks = asks = Pair(Request)
        wiring.connect(m, bursts.requests, asks.write)
        wiring.connect(m, asks.read, wiring.flipped(self.requests))
        wiring.connect(m, wiring.flipped(self.beats), writer.beats)
        wiring.connect(m, wiring.flipped(self.inp_write), writer.write0)
        wiring.connect(m, wiring.flipped(self.wgt_write), writer.write1)
        m.d.comb += [self.done.eq(writer.done), self.flags.eq(writer.flags)]
        m.d.comb += self.busy.eq(rows.read.valid | jobs.read.valid | writer.busy)
        over = [(writer.write0, Memory.INP), (writer.write1, Memory.WGT)]
        m.d.comb += self.refused.eq(
            writer.overrun | Cat(p.enable.any() & (p.index >= self._config.depth(k)) for p, k in over).any()
        )
        return m
