"""Elements of a framed LOAD, one after another: what is padding and what comes from DRAM."""

from amaranth import Elaboratable, Module, Signal, Value, ValueLike
from amaranth.lib import data, wiring
from amaranth.lib.wiring import In, Out


class Bounds(data.Struct):
    """Of an axis: where its places begin and end inside the padding, and what is known of the first."""

    before: 4
    right: 17
    width: 17
    inside: 1
    ends: 1
    last: 1


class Frame(data.Struct):
    """The frame of a LOAD: its place on the chip, and rows of elements with padding around them."""

    sram: 16
    phase: 1
    """The lowest bit of the first row's first element: where it lies in its word, if two share one."""
    stride: 1
    """The lowest bit of the distance between rows."""
    across: Bounds
    down: Bounds
    empty: 1
    """There are no elements."""


def fill_bounds(bounds: data.View, before: Value, size: Value, behind: Value) -> list[object]:
    """Those of `size` places with padding; what holds where there is at least one."""
    right = before + size
    single = (before == 0) & (size == 1)
    return [
        bounds.before.eq(before),
        bounds.right.eq(right),
        bounds.width.eq(right + behind),
        bounds.inside.eq(before == 0),
        bounds.ends.eq(single),
        bounds.last.eq(single & (behind == 0)),
    ]


def fill_frame(frame: data.View, insn: data.View) -> list[object]:
    """The frame of a LOAD instruction."""
    return [
        frame.sram.eq(insn.sram),
        frame.phase.eq(insn.dram[0]),
        frame.stride.eq(insn.x_stride[0]),
        *fill_bounds(frame.across, insn.x_pad_0, insn.x_size, insn.x_pad_1),
        *fill_bounds(frame.down, insn.y_pad_0, insn.y_size, insn.y_pad_1),
        frame.empty.eq((insn.x_size == 0) | (insn.y_size == 0)),
    ]


class Walk(wiring.Component):
    """Walks over a frame, an element a `step`.

    `start`: begin with `frame`; while `busy`, the element at `sram` is padding if `pad`, and the last of its
    row in DRAM if `row_end`; `phase` is where it lies in its word; `last`: no other follows. An empty frame
    has no elements.
    """

    frame: In(Frame)
    start: In(1)
    step: In(1)
    busy: Out(1)
    sram: Out(17)
    pad: Out(1)
    row_end: Out(1)
    phase: Out(1)
    last: Out(1)

    def elaborate(self, platform: object) -> Elaboratable:
        """Two counters; how they compare with the frame is known a cycle before it is used."""
        m = Module()
        stride, row_phase = Signal(), Signal()
        across, down = Axis(), Axis()
        m.submodules.across, m.submodules.down = across, down
        f = self.frame
        m.d.comb += [
            self.pad.eq(~(across.inside & down.inside)),
            self.row_end.eq(across.ends),
            self.last.eq(across.last & down.last),
            across.bounds.eq(f.across),
            down.bounds.eq(f.down),
            across.start.eq(self.start),
            down.start.eq(self.start),
        ]
        with m.If(self.start):
            m.d.sync += [
                stride.eq(f.stride),
                self.sram.eq(f.sram),
                self.phase.eq(f.phase),
                row_phase.eq(f.phase ^ f.stride),
                self.busy.eq(~f.empty),
            ]
        with m.Elif(self.step & self.busy):
            m.d.comb += [across.step.eq(1), down.step.eq(across.last)]
            m.d.sync += self.sram.eq(self.sram + 1)
            with m.If(~self.pad):
                m.d.sync += self.phase.eq(~self.phase)
            with m.If(~self.pad & self.row_end):
                m.d.sync += [self.phase.eq(row_phase), row_phase.eq(row_phase ^ stride)]
            with m.If(self.last):
                m.d.sync += self.busy.eq(0)
        return m


class Axis(wiring.Component):
    """A counter over the places within `bounds`, which begins again behind its last.

    `inside`: no padding; `ends`: the last inside; `last`: the last of all.
    """

    bounds: In(Bounds)
    start: In(1)
    step: In(1)
    inside: Out(1)
    ends: Out(1)
    last: Out(1)

    def elaborate(self, platform: object) -> Elaboratable:
        """The next place is compared with the bounds, of which `start` keeps those that it needs."""
        m = Module()
        place, before = Signal(17), Signal(4)  # the place behind the current one
        right, width = Signal(17), Signal(17)
        given = self.bounds
        with m.If(self.start):
            m.d.sync += [before.eq(given.before), right.eq(given.right), width.eq(given.width), place.eq(1)]
            m.d.sync += [self.inside.eq(given.inside), self.ends.eq(given.ends), self.last.eq(given.last)]
        with m.Elif(self.step & self.last):
            m.d.sync += self._at(0, before, right, width) + [place.eq(1)]
        with m.Elif(self.step):
            m.d.sync += self._at(place, before, right, width) + [place.eq(place + 1)]
        return m

    def _at(self, place: ValueLike, before: Value, right: Value, width: Value) -> list[object]:
        return [
            self.inside.eq((before <= place) & (right > place)),
            self.ends.eq(right == place + 1),
            self.last.eq(width == place + 1),
        ]
