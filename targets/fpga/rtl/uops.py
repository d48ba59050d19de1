"""The memory of micro-ops: two are written a cycle, one is read."""

from amaranth import Elaboratable, Module, Mux, Signal
from amaranth.lib import data, stream, wiring
from amaranth.lib.memory import Memory
from amaranth.lib.wiring import In, Out

from optc.targets.fpga.rtl.layouts import Flags, beats


class UopJob(data.Struct):
    """A LOAD of `count` micro-ops from an odd or even place in DRAM to `sram`."""

    sram: 16
    odd: 1
    count: 16
    flags: Flags


class Uops(wiring.Component):
    """`depth` micro-ops in two banks, even and odd, so that both of a word are written at once.

    Jobs are taken one after another; `done` is raised for a cycle with the `flags` of one that ended.
    `value` is the micro-op at `index` two cycles before. `overrun`: a job passes the memory's end.
    """

    def __init__(self, depth: int) -> None:
        self._depth = depth
        self._bits = (depth - 1).bit_length()
        super().__init__(
            {
                "jobs": In(stream.Signature(UopJob)),
                "beats": In(beats()),
                "hold": In(1),
                "done": Out(1),
                "flags": Out(Flags),
                "overrun": Out(1),
                "index": In(self._bits),
                "value": Out(32),
            }
        )

    def elaborate(self, platform: object) -> Elaboratable:
        """Both halves of a word go to neighbouring places, the first of which may be odd."""
        m = Module()
        low, high = self._banks(m)
        job = self.jobs.payload
        running, flags = Signal(), Signal(Flags)
        place, left = (
            Signal(17),
            Signal(17),
        )  # of the low half of the next word; micro-ops, with a skipped one
        skip = Signal()
        ended = Signal()
        write = Signal()
        m.d.comb += write.eq(running & (left != 0) & self.beats.valid & ~self.hold)
        m.d.comb += self.beats.ready.eq(running & (left != 0) & ~self.hold)
        m.d.comb += ended.eq(running & ((left == 0) | (write & (left <= 2))))
        m.d.comb += [self.done.eq(ended), self.flags.eq(flags)]
        with m.If(write):
            m.d.sync += [place.eq(place + 2), left.eq(Mux(left <= 2, 0, left - 2)), skip.eq(0)]
        with m.If(~running | ended):
            m.d.comb += self.jobs.ready.eq(1)
            m.d.sync += [
                running.eq(self.jobs.valid),
                flags.eq(job.flags),
                place.eq(job.sram - job.odd),
                left.eq(Mux(job.count == 0, 0, job.count + job.odd)),
                skip.eq(job.odd),
            ]
        takes = Signal(2)  # which halves of the word are micro-ops of the job
        m.d.comb += takes.eq(Mux(write, (left >= 2) << 1 | ~skip, 0))
        word = self.beats.payload.data
        behind = Signal(17)
        m.d.comb += behind.eq(place + 1)
        with m.If(place[0]):
            m.d.comb += [high.addr.eq(place[1:]), high.data.eq(word[:32]), high.en.eq(takes[0])]
            m.d.comb += [low.addr.eq(behind[1:]), low.data.eq(word[32:]), low.en.eq(takes[1])]
        with m.Else():
            m.d.comb += [low.addr.eq(place[1:]), low.data.eq(word[:32]), low.en.eq(takes[0])]
            m.d.comb += [high.addr.eq(place[1:]), high.data.eq(word[32:]), high.en.eq(takes[1])]
        last = Mux(takes[1], behind, place)
        m.d.sync += self.overrun.eq(write & (last >= self._depth) & takes.any())
        return m

    def _banks(self, m: Module) -> tuple[wiring.PureInterface, wiring.PureInterface]:
        """The write ports of the even and the odd bank; the read side is connected."""
        ports, values = [], []
        chosen = Signal(2)  # the lowest bit of the index, as old as the values
        m.d.sync += chosen.eq(chosen << 1 | self.index[0])
        for name in ("even", "odd"):
            memory = Memory(shape=32, depth=self._depth // 2, init=[])
            m.submodules[name] = memory
            ports.append(memory.write_port())
            read = memory.read_port()
            m.d.comb += read.addr.eq(self.index[1:])
            register = Signal(32, name=f"{name}_value", reset_less=True)
            m.d.sync += register.eq(read.data)
            values.append(register)
        m.d.comb += self.value.eq(Mux(chosen[1], values[1], values[0]))
        return ports[0], ports[1]
