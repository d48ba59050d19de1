"""The loop nest of GEMM and ALU: an index a cycle."""

from amaranth import Cat, Elaboratable, Module, Signal, Value
from amaranth.lib import data, stream, wiring
from amaranth.lib.wiring import In, Out

from optc.targets.vta.config import Config, Memory

ITERATIONS = 14
"""Bits of a loop's extent."""


def nest_layout(config: Config) -> data.StructLayout:
    """A loop nest: two loops around a range of micro-ops, and how indices move with each."""
    uop = config.log_depth(Memory.UOP)
    sizes = {
        "dst": config.log_depth(Memory.ACC),
        "src": config.log_depth(Memory.INP),
        "wgt": config.log_depth(Memory.WGT),
    }
    factors = {f"{name}_{loop}": bits for name, bits in sizes.items() for loop in ("out", "in")}
    return data.StructLayout(
        {"uop_begin": uop, "uop_end": uop + 1, "iter_out": ITERATIONS, "iter_in": ITERATIONS, **factors}
    )


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

    `valid` says that `step` is one. The extents of a nest are at least 1, and it has a micro-op and none
    beyond the memory: `refused` is raised where not, and the nest is passed over.
    """

    def __init__(self, config: Config) -> None:
        self._config = config
        super().__init__(
            {
                "nests": In(stream.Signature(nest_layout(config))),
                "step": Out(step_layout(config)),
                "valid": Out(1),
                "refused": Out(1),
            }
        )

    def elaborate(self, platform: object) -> Elaboratable:
        """Three counters, and for each index what the outer loop and what both loops add."""
        m = Module()
        given, nest = self.nests.payload, Signal(nest_layout(self._config))
        out_left, in_left = Signal(ITERATIONS), Signal(ITERATIONS)  # iterations that follow this one
        uop = Signal(self._config.log_depth(Memory.UOP))
        uop_last, in_last = Signal(), Signal()
        m.d.comb += [uop_last.eq(uop + 1 == nest.uop_end), in_last.eq(in_left == 0)]
        m.d.comb += [self.step.uop.eq(uop), self.step.last.eq(uop_last & in_last & (out_left == 0))]
        with m.If(uop_last):
            m.d.sync += [uop.eq(nest.uop_begin), in_left.eq(in_left - 1)]
            with m.If(in_last):
                m.d.sync += [in_left.eq(nest.iter_in - 1), out_left.eq(out_left - 1)]
        with m.Else():
            m.d.sync += uop.eq(uop + 1)
        ready = ~self.valid | self.step.last
        m.d.comb += self.nests.ready.eq(ready)
        bad = (given.iter_out == 0) | (given.iter_in == 0) | (given.uop_begin >= given.uop_end)
        bad |= given.uop_end > self._config.depth(Memory.UOP)
        with m.If(ready):
            m.d.comb += self.refused.eq(self.nests.valid & bad)
            m.d.sync += [self.valid.eq(self.nests.valid & ~bad), nest.eq(given), uop.eq(given.uop_begin)]
            m.d.sync += [in_left.eq(given.iter_in - 1), out_left.eq(given.iter_out - 1)]
        for name in ("dst", "src", "wgt"):
            self._index(m, name, nest, uop_last, in_last, ready)
        return m

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


def _advanced(index: Value, factor: Value) -> Value:
    """`index + factor`; its highest bit stays set once it was."""
    bits = len(index) - 1
    total = index[:bits] + factor
    return Cat(total[:bits], total[bits:].any() | index[bits])
