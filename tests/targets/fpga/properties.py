"""Designs with assertions around modules of the RTL, for `proofs.verdict`; all inputs are free."""

from typing import Any

from amaranth import Elaboratable, Module, Mux, ResetSignal, Signal, Value
from amaranth.hdl import Assert, Assume
from amaranth.lib import stream, wiring
from amaranth.lib.wiring import In, Out

from optc.targets.fpga.rtl.counter import TokenCounter
from optc.targets.fpga.rtl.layouts import INSTRUCTION_BITS

WIDTH = 1
"""Bits of what passes a queue."""
COUNT = 16
"""Bits of a count of entries or tokens."""


class Checked(wiring.Component):
    """A component that is not reset."""

    def elaborate(self, platform: object) -> Elaboratable:
        m = Module()
        m.d.comb += Assume(~ResetSignal())
        self.check(m)
        return m

    def check(self, m: Module) -> None:
        raise NotImplementedError


def before(m: Module, value: Any) -> Value:
    """What `value` was a cycle ago; zero in the first."""
    register = Signal.like(Value.cast(value))
    m.d.sync += register.eq(value)
    return register


def passes(of: Any) -> Value:
    """Whether a stream moves a payload in this cycle."""
    return of.valid & of.ready


def held(m: Module, of: Any) -> None:
    """AXI's rule: a payload, once shown, stays until it is taken (IHI 0022, A3.2.1)."""
    waits, payload = before(m, of.valid & ~of.ready), before(m, of.payload)
    with m.If(waits):
        m.d.comb += [Assert(of.valid), Assert(Value.cast(of.payload) == payload)]


class Tokens(Checked):
    """The counter holds as many tokens as were given and not taken, up to its limit, and says so."""

    give: In(1)
    take: In(1)

    def __init__(self, counter: Any) -> None:
        self._counter, self._limit = counter.TokenCounter(), counter.LIMIT
        super().__init__()

    def check(self, m: Module) -> None:
        m.submodules.counter = counter = self._counter
        m.d.comb += [counter.give.eq(self.give), counter.take.eq(self.take)]
        tokens, full = Signal(COUNT), Signal()
        m.d.comb += full.eq(tokens == self._limit)
        with m.If(self.give & ~self.take):
            m.d.sync += tokens.eq(Mux(full, tokens, tokens + 1))
        with m.Elif(self.take & ~self.give):
            m.d.sync += tokens.eq(Mux(tokens == 0, 0, tokens - 1))
        m.d.comb += [
            Assert(tokens == counter.level),
            Assert(tokens <= self._limit),
            Assert(counter.available == (tokens != 0)),
            Assert(counter.overflow == (self.give & ~self.take & full)),
        ]


class Gated(Checked):
    """A gate takes a token from a counter only when one is there, and one for each instruction that asks."""

    give: In(1)
    instructions: In(stream.Signature(INSTRUCTION_BITS))
    other: In(1)
    ready: In(1)

    def __init__(self, gate: Any) -> None:
        self._gate = gate.Gate()
        super().__init__()

    def check(self, m: Module) -> None:
        m.submodules.gate = gate = self._gate
        m.submodules.counter = counter = TokenCounter()
        wiring.connect(m, wiring.flipped(self.instructions), gate.instructions)
        m.d.comb += [
            counter.give.eq(self.give),
            counter.take.eq(gate.prev_take),
            gate.prev_available.eq(counter.available),
            gate.next_available.eq(self.other),
            gate.ready_instructions.ready.eq(self.ready),
        ]
        asks = self.instructions.payload[3]
        m.d.comb += [
            Assert(~gate.prev_take | (counter.level != 0)),
            Assert(gate.prev_take == (passes(gate.ready_instructions) & asks)),
            Assert(passes(gate.ready_instructions) == passes(gate.instructions)),
        ]


class Levels(Checked):
    """A queue takes no more than it holds, gives no more than it took, and knows how many it has."""

    def __init__(self, fifo: Any, depth: int) -> None:
        self._fifo = fifo.Fifo(WIDTH, depth)
        self._depth = depth + 2 * (depth > fifo.SMALL)  # a large one holds two more
        ends = {"write": In(stream.Signature(WIDTH)), "read": Out(stream.Signature(WIDTH))}
        super().__init__({**ends, "mark": In(1)})

    def connect(self, m: Module) -> None:
        m.submodules.fifo = self._fifo
        wiring.connect(m, wiring.flipped(self.write), self._fifo.write)
        wiring.connect(m, self._fifo.read, wiring.flipped(self.read))

    def check(self, m: Module) -> None:
        self.connect(m)
        level, pair = Signal(COUNT), self._fifo.pair
        m.d.sync += level.eq(level + passes(self.write) - passes(self.read))
        m.d.comb += [
            Assert(level == self._fifo.level),
            Assert(level <= self._depth),
            Assert(~self.read.valid | (level != 0)),
        ]
        # The queue in front of a pair keeps within its own bounds.
        before = level - pair.level if pair else level
        gives = pair.write.valid if pair else self.read.valid
        room = self._depth - 2 * (pair is not None)
        m.d.comb += Assert(
            (before >= 0)
            & (before <= room)
            & (~self.write.ready | (before < room))
            & (~gives | (before != 0))
        )


class Order(Levels):
    """Any one that is written is read when those before it were; what waits to be read stays."""

    def check(self, m: Module) -> None:
        self.connect(m)
        follows, ahead, value = Signal(), Signal(range(self._depth + 1)), Signal(WIDTH)
        with m.If(passes(self.read)):
            m.d.sync += [ahead.eq(ahead - 1), follows.eq(follows & (ahead != 0))]
        with m.If(passes(self.write) & self.mark & ~follows):
            left = self._fifo.level - passes(self.read)
            m.d.sync += [follows.eq(1), ahead.eq(left), value.eq(self.write.payload)]
        with m.If(follows & self.read.valid & (ahead == 0)):
            m.d.comb += Assert(self.read.payload == value)
        held(m, self.read)
