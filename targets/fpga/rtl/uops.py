"""The memory of micro-ops: two are written a cycle, one is read."""

from amaranth import Cat, Elaboratable, Module, Mux, Signal, Value
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
        place, skip = Signal(17), Signal()  # of the low half of the next word, and whether it is no micro-op
        left, more, both, final = Signal(17), Signal(), Signal(), Signal()
        write, ended = Signal(), Signal()
        m.d.comb += [self.beats.ready.eq(more), write.eq(more & self.beats.valid)]
        m.d.comb += ended.eq(running & (~more | (write & final)))
        m.d.comb += [self.done.eq(ended), self.flags.eq(flags)]

        def leave(count: Value) -> list[object]:
            """`count` are left, with one that is skipped: what is asked of it is known a cycle before."""
            return [left.eq(count), more.eq(count != 0), both.eq(count >= 2), final.eq(count <= 2)]

        with m.If(write):
            m.d.sync += [place.eq(place + 2), skip.eq(0), *leave(Mux(final, 0, left - 2))]
        with m.If(~running | ended):
            m.d.comb += self.jobs.ready.eq(1)
            m.d.sync += [running.eq(self.jobs.valid), flags.eq(job.flags), skip.eq(job.odd)]
            m.d.sync += place.eq(job.sram - job.odd)
            with m.If(self.jobs.valid):
                m.d.sync += leave(Mux(job.count == 0, 0, job.count + job.odd))
        takes = Cat(write & ~skip, write & both)  # which halves of the word are micro-ops of the job
        word, odd = self.beats.payload.data, place[0]
        behind = Signal(17)
        m.d.comb += behind.eq(place + 1)
        # A cycle late: whether a word is written is known late in its cycle.
        m.d.sync += [low.addr.eq(Mux(odd, behind, place)[1:]), high.addr.eq(place[1:])]
        m.d.sync += Cat(low.data, high.data).eq(Mux(odd, word.rotate_left(32), word))
        m.d.sync += Cat(low.en, high.en).eq(Mux(odd, takes.rotate_left(1), takes))
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
