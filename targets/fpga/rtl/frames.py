"""Elements of a framed LOAD, one after another: what is padding and what comes from DRAM."""

from amaranth import Elaboratable, Module, Signal, Value
from amaranth.lib import data, wiring
from amaranth.lib.wiring import In, Out


class Frame(data.Struct):
    """The frame of a LOAD: its place on the chip, and rows of elements with padding around them."""

    sram: 16
    phase: 1
    """The lowest bit of the first row's first element: where it lies in its word, if two share one."""
    stride: 1
    """The lowest bit of the distance between rows."""
    y_size: 16
    x_size: 16
    y_pad_0: 4
    y_pad_1: 4
    x_pad_0: 4
    x_pad_1: 4


class Walk(wiring.Component):
    """Walks over a frame, an element a `step`.

    `start`: begin with `frame`; while `busy`, the element at `sram` is padding if `pad`, and the last of its
    row in DRAM if `row_end`; `phase` is where it lies in its word; `last`: no other follows. A frame whose
    `x_size` or `y_size` is 0 has no elements.
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
        frame, row_phase = Signal(Frame), Signal()
        across, down = Axis(), Axis()
        m.submodules.across, m.submodules.down = across, down
        f = self.frame
        m.d.comb += [
            self.pad.eq(~(across.inside & down.inside)),
            self.row_end.eq(across.ends),
            self.last.eq(across.last & down.last),
            across.before.eq(f.x_pad_0),
            across.size.eq(f.x_size),
            across.behind.eq(f.x_pad_1),
            down.before.eq(f.y_pad_0),
            down.size.eq(f.y_size),
            down.behind.eq(f.y_pad_1),
            across.start.eq(self.start),
            down.start.eq(self.start),
        ]
        with m.If(self.start):
            m.d.sync += [
                frame.eq(f),
                self.sram.eq(f.sram),
                self.phase.eq(f.phase),
                row_phase.eq(f.phase ^ f.stride),
                self.busy.eq((f.x_size != 0) & (f.y_size != 0)),
            ]
        with m.Elif(self.step & self.busy):
            m.d.comb += [across.step.eq(1), down.step.eq(across.last)]
            m.d.sync += self.sram.eq(self.sram + 1)
            with m.If(~self.pad):
                m.d.sync += self.phase.eq(~self.phase)
            with m.If(~self.pad & self.row_end):
                m.d.sync += [self.phase.eq(row_phase), row_phase.eq(row_phase ^ frame.stride)]
            with m.If(self.last):
                m.d.sync += self.busy.eq(0)
        return m


class Axis(wiring.Component):
    """A counter over `size` places with `before` and `behind` of padding, which begins again behind its last.

    `inside`: no padding; `ends`: the last inside; `last`: the last of all.
    """

    before: In(4)
    size: In(16)
    behind: In(4)
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
        new_right, new_width = Signal(17), Signal(17)
        m.d.comb += [new_right.eq(self.before + self.size), new_width.eq(new_right + self.behind)]
        with m.If(self.start):
            m.d.sync += [before.eq(self.before), right.eq(new_right), width.eq(new_width)]
            # Without the sums: `size` is at least 1 where this matters.
            single = (self.before == 0) & (self.size == 1)
            m.d.sync += [self.inside.eq(self.before == 0), self.ends.eq(single)]
            m.d.sync += [self.last.eq(single & (self.behind == 0)), place.eq(1)]
        with m.Elif(self.step & self.last):
            m.d.sync += self._at(0, before, right, width) + [place.eq(1)]
        with m.Elif(self.step):
            m.d.sync += self._at(place, before, right, width) + [place.eq(place + 1)]
        return m

    def _at(self, place: Value | int, before: Value, right: Value, width: Value) -> list[object]:
        return [
            self.inside.eq((before <= place) & (right > place)),
            self.ends.eq(right == place + 1),
            self.last.eq(width == place + 1),
        ]
