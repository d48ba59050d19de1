"""Words from DRAM, and zeros for padding, into a memory on the chip."""

from amaranth import Elaboratable, Module, Mux, Signal, Value
from amaranth.lib import data, stream, wiring
from amaranth.lib.wiring import In, Out

from optc.targets.fpga.rtl.frames import Frame, Walk, fill_frame
from optc.targets.fpga.rtl.layouts import Flags, beats


class Job(data.Struct):
    """A LOAD to be written: its frame, which of two memories it goes to, the tokens that it gives."""

    frame: Frame
    kind: 1
    flags: Flags


def write_signature(banks: int, width: int) -> wiring.Signature:
    """A write of one bank (`enable` a bit a bank), or of zeros to all: `data` for each bank, `width` bits."""
    return wiring.Signature({"index": Out(16), "enable": Out(banks), "data": Out(width)})


class Writer(wiring.Component):
    """Takes jobs one after another, and the words that they need, and writes a word a cycle.

    `logs`: for each kind of job, the base-2 logarithm of the words of an element (-1: two share a word).
    Memories are written in banks of a word (or an element, where it is smaller), a cycle late: they are large
    and far. `hold`: write nothing yet. `done` is raised for a cycle, before the last write is seen, with the
    `flags` of a job that ended. `overrun`: a frame passes 16 bits.
    """

    def __init__(self, logs: tuple[int, int]) -> None:
        self._logs = logs
        ports = {f"write{kind}": Out(bank_signature(log)) for kind, log in enumerate(logs)}
        super().__init__(
            {
                "jobs": In(stream.Signature(Job)),
                "beats": In(beats()),
                "hold": In(1),
                "done": Out(1),
                "flags": Out(Flags),
                "busy": Out(1),
                "overrun": Out(1),
                **ports,
            }
        )

    def elaborate(self, platform: object) -> Elaboratable:
        """A job at a time; the next begins in the cycle behind the last write of the one before."""
        m = Module()
        m.submodules.walk = walk = Walk()
        job = self.jobs.payload
        running, kind = Signal(), Signal()
        flags = Signal(Flags)
        # Which word of an element this is, whether it is the last, and whether an element is half a word.
        bank, full, split = Signal(max(*self._logs, 1)), Signal(), Signal()
        m.d.comb += [walk.frame.eq(job.frame), self.flags.eq(flags)]
        m.d.comb += self.overrun.eq(walk.busy & walk.sram[16])
        ended = Signal()
        m.d.comb += ended.eq(running & (~walk.busy | (walk.last & walk.step)))
        m.d.comb += [self.done.eq(ended), self.busy.eq(running)]
        write = Signal()
        m.d.comb += walk.step.eq(write & (walk.pad | full))
        with m.If(walk.busy & ~self.hold):
            m.d.comb += write.eq(walk.pad | self.beats.valid)
            # The second half of a word is another element's, in the same row or not at all.
            keeps = split & ~walk.phase & ~walk.row_end
            m.d.comb += self.beats.ready.eq(~walk.pad & ~keeps)
        for value, log in enumerate(self._logs):
            last = (1 << max(log, 0)) - 1
            with m.If(write & ~walk.pad & (kind == value)):
                following = Mux(full, 0, bank + 1)
                m.d.sync += [bank.eq(following), full.eq(following == last)]
        with m.If(~running | ended):
            m.d.comb += [self.jobs.ready.eq(1), walk.start.eq(self.jobs.valid)]
            m.d.sync += [running.eq(self.jobs.valid), kind.eq(job.kind), flags.eq(job.flags), bank.eq(0)]
            for value, log in enumerate(self._logs):
                with m.If(job.kind == value):
                    m.d.sync += [full.eq(log <= 0), split.eq(log < 0)]
        for value, log in enumerate(self._logs):
            self._connect(m, value, log, write & (kind == value), walk, bank)
        return m

    def _connect(self, m: Module, value: int, log: int, write: Signal, walk: Walk, bank: Signal) -> None:
        port = getattr(self, f"write{value}")
        word = self.beats.payload.data
        taken = Mux(walk.phase, word[32:], word[:32]) if log < 0 else word
        m.d.sync += [port.index.eq(walk.sram), port.data.eq(Mux(walk.pad, 0, taken))]
        for number in range(1 << max(log, 0)):
            m.d.sync += port.enable[number].eq(write & (walk.pad | (bank == number if log > 0 else 1)))


def bank_signature(log: int) -> wiring.Signature:
    """`write_signature` of a memory whose elements have 2**`log` words (-1: half a word)."""
    return write_signature(1 << max(log, 0), 32 if log < 0 else 64)


def fill_job(job: data.View, insn: data.View, kind: Value) -> list[object]:
    """The job of a LOAD instruction."""
    return [
        *fill_frame(job.frame, insn),
        job.kind.eq(kind),
        job.flags.push_prev.eq(insn.push_prev),
        job.flags.push_next.eq(insn.push_next),
    ]
