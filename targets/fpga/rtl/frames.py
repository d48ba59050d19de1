"""Elements of a framed LOAD, one after another: what is padding and what comes from DRAM."""

from amaranth import Elaboratable, Module, Signal
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
        """Two counters, compared with the frame."""
        m = Module()
        frame = Signal(Frame)
        x, y = Signal(17), Signal(17)
        row_phase = Signal()
        left, right, width = Signal(4), Signal(17), Signal(17)
        top, bottom, height = Signal(4), Signal(17), Signal(17)
        m.d.comb += [
            self.pad.eq((x < left) | (x >= right) | (y < top) | (y >= bottom)),
            self.row_end.eq(x == right - 1),
            self.last.eq((x == width - 1) & (y == height - 1)),
        ]
        with m.If(self.start):
            f = self.frame
            m.d.sync += [
                frame.eq(f),
                x.eq(0),
                y.eq(0),
                self.sram.eq(f.sram),
                self.phase.eq(f.phase),
                row_phase.eq(f.phase ^ f.stride),
                left.eq(f.x_pad_0),
                right.eq(f.x_pad_0 + f.x_size),
                width.eq(f.x_pad_0 + f.x_size + f.x_pad_1),
                top.eq(f.y_pad_0),
                bottom.eq(f.y_pad_0 + f.y_size),
                height.eq(f.y_pad_0 + f.y_size + f.y_pad_1),
                self.busy.eq((f.x_size != 0) & (f.y_size != 0)),
            ]
        with m.Elif(self.step & self.busy):
            m.d.sync += [self.sram.eq(self.sram + 1), x.eq(x + 1)]
            with m.If(~self.pad):
                m.d.sync += self.phase.eq(~self.phase)
            with m.If(x == width - 1):
                m.d.sync += [x.eq(0), y.eq(y + 1)]
            with m.If(~self.pad & self.row_end):
                m.d.sync += [self.phase.eq(row_phase), row_phase.eq(row_phase ^ frame.stride)]
            with m.If(self.last):
                m.d.sync += self.busy.eq(0)
        return m
