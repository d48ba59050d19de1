"""The loop nest of GEMM and ALU: an index a cycle."""

from amaranth import Cat, Elaboratable, Module, Signal, Value
from amaranth.lib import data, stream, wiring
from amaranth.lib.wiring import In, Out

from optc.targets.fpga.rtl.layouts import Flags, Operation
from optc.targets.vta.config import Config, Memory

ITERATIONS = 14
"""Bits of a loop's extent."""


class Work(data.Struct):
    """What the steps of a nest do, and the tokens that its end gives."""

    operation: Operation
    flags: Flags


def nest_layout(config: Config) -> data.StructLayout:
    """A loop nest: two loops around micro-ops, how indices move with each, and what a step does."""
    uop = config.log_depth(Memory.UOP)
    return data.StructLayout(
        {
            "uop_begin": uop,
            "uop_end": uop + 1,
            "iter_out": ITERATIONS,
            "iter_in": ITERATIONS,
            **_factors(config),
            "work": Work,
        }
    )


def _prepared_layout(config: Config) -> data.StructLayout:
    """A nest as the counters need it: its first micro-op, what follows the first of each loop."""
    uop = config.log_depth(Memory.UOP)
    more = {"uop_more": uop, "out_more": ITERATIONS, "in_more": ITERATIONS}
    return data.StructLayout({"uop_begin": uop, **more, **_factors(config), "work": Work})


def _factors(config: Config) -> dict[str, int]:
    sizes = {
        "dst": config.log_depth(Memory.ACC),
        "src": config.log_depth(Memory.INP),
        "wgt": config.log_depth(Memory.WGT),
    }
    return {f"{name}_{loop}": bits for name, bits in sizes.items() for loop in ("out", "in")}


def step_layout(config: Config) -> data.StructLayout:
    """A step: which micro-op, what is added to its indices, whether it is the last.

    The highest bit of each index says that it has passed the memory's depth.
    """
    return data.StructLayout(
        {
            "uop": config.log_depth(Memory.UOP),
            **{name: bits + 1 for name, bits in index_bits(config).items()},
            "last": 1,
        }
    )


def index_bits(config: Config) -> dict[str, int]:
    """Bits of the indices that a step needs; `src` is of INP in a GEMM, of ACC in an ALU instruction."""
    acc, inp, wgt = (config.log_depth(m) for m in (Memory.ACC, Memory.INP, Memory.WGT))
    return {"dst": acc, "src": max(acc, inp), "wgt": wgt}


class Loops(wiring.Component):
    """Takes loop nests and gives a step every cycle; a nest may follow another without a gap.

    `valid` says that `step` is one, which does `work`; `busy`, that there is one or will be. The extents of a
    nest are at least 1, and it has micro-ops, all of them in the memory: `refused` is raised where not, and
    the nest is passed over.
    """

    def __init__(self, config: Config) -> None:
        self._config = config
        super().__init__(
            {
                "nests": In(stream.Signature(nest_layout(config))),
                "step": Out(step_layout(config)),
                "work": Out(Work),
                "valid": Out(1),
                "busy": Out(1),
                "refused": Out(1),
            }
        )

    def elaborate(self, platform: object) -> Elaboratable:
        """Three counters, and for each index what the outer loop and what both loops add.

        The next nest waits in a register; that a counter is at its end is known a cycle before.
        """
        m = Module()
        layout = _prepared_layout(self._config)
        ahead, nest = Signal(layout, reset_less=True), Signal(layout, reset_less=True)
        waits = Signal()
        takes = Signal()
        m.d.comb += [takes.eq(~self.valid | self.step.last), self.busy.eq(self.valid | waits)]
        self._prepare(m, ahead, waits, takes)
        uop, uop_left = Signal(layout["uop_begin"].shape), Signal(layout["uop_more"].shape)
        in_left, out_left = Signal(ITERATIONS), Signal(ITERATIONS)
        uop_last, in_last, out_last = Signal(), Signal(), Signal()
        m.d.comb += [
            self.step.uop.eq(uop),
            self.step.last.eq(uop_last & in_last & out_last),
            self.work.eq(nest.work),
        ]
        with m.If(takes):
            m.d.sync += [self.valid.eq(waits), nest.eq(ahead), uop.eq(ahead.uop_begin)]
            m.d.sync += [
                *_loaded(uop_left, uop_last, ahead.uop_more),
                *_loaded(in_left, in_last, ahead.in_more),
            ]
            m.d.sync += _loaded(out_left, out_last, ahead.out_more)
        with m.Elif(uop_last):
            m.d.sync += [uop.eq(nest.uop_begin), *_loaded(uop_left, uop_last, nest.uop_more)]
            with m.If(in_last):
                m.d.sync += [*_loaded(in_left, in_last, nest.in_more), *_counted(out_left, out_last)]
            with m.Else():
                m.d.sync += _counted(in_left, in_last)
        with m.Else():
            m.d.sync += [uop.eq(uop + 1), *_counted(uop_left, uop_last)]
        for name in ("dst", "src", "wgt"):
            self._index(m, name, nest, uop_last, in_last, takes)
        return m

    def _prepare(self, m: Module, ahead: data.View, waits: Signal, takes: Signal) -> None:
        given = self.nests.payload
        bad = (given.iter_out == 0) | (given.iter_in == 0) | (given.uop_begin >= given.uop_end)
        bad |= given.uop_end > self._config.depth(Memory.UOP)
        m.d.comb += self.nests.ready.eq(~waits | takes)
        with m.If(self.nests.ready):
            m.d.comb += self.refused.eq(self.nests.valid & bad)
            m.d.sync += [waits.eq(self.nests.valid & ~bad), ahead.uop_begin.eq(given.uop_begin)]
            m.d.sync += ahead.uop_more.eq(given.uop_end - given.uop_begin - 1)
            m.d.sync += [ahead.out_more.eq(given.iter_out - 1), ahead.in_more.eq(given.iter_in - 1)]
            m.d.sync += [ahead[name].eq(given[name]) for name in _factors(self._config)]
            m.d.sync += ahead.work.eq(given.work)

    def _index(
        self, m: Module, name: str, nest: data.View, uop_last: Signal, in_last: Signal, begin: object
    ) -> None:
        index = self.step[name]
        now, outer = Signal.like(index, name=f"{name}_now"), Signal.like(index, name=f"{name}_outer")
        m.d.comb += index.eq(now)
        with m.If(uop_last):
            m.d.sync += now.eq(_advanced(now, nest[f"{name}_in"]))
            with m.If(in_last):
                following = _advanced(outer, nest[f"{name}_out"])
                m.d.sync += [now.eq(following), outer.eq(following)]
        with m.If(begin):
            m.d.sync += [now.eq(0), outer.eq(0)]


def _loaded(left: Signal, last: Signal, more: Value) -> list[object]:
    return [left.eq(more), last.eq(more == 0)]


def _counted(left: Signal, last: Signal) -> list[object]:
    return [left.eq(left - 1), last.eq(left == 1)]


def _advanced(index: Value, factor: Value) -> Value:
    """`index + factor`; its highest bit stays set once it was."""
    bits = len(index) - 1
    total = index[:bits] + factor
    return Cat(total[:bits], total[bits:].any() | index[bits])
