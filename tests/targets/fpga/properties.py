"""Designs with assertions around modules of the RTL, for `proofs.verdict`; all inputs are free."""

from typing import Any

from amaranth import Cat, Elaboratable, Module, Mux, ResetSignal, Signal, Value
from amaranth.asserts import AnyConst
from amaranth.hdl import Assert, Assume
from amaranth.lib import stream, wiring
from amaranth.lib.wiring import In, Out

from optc.targets.fpga.rtl.counter import LIMIT
from optc.targets.fpga.rtl.layouts import INSTRUCTION_BITS, beats, requests

COUNT = 16
"""Bits of a count that no run here passes."""


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


def counted(m: Module, event: Value) -> Signal:
    """How often `event` was before this cycle."""
    count = Signal(COUNT)
    m.d.sync += count.eq(count + event)
    return count


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
        self._counter = counter.TokenCounter()
        super().__init__()

    def check(self, m: Module) -> None:
        m.submodules.counter = counter = self._counter
        m.d.comb += [counter.give.eq(self.give), counter.take.eq(self.take)]
        tokens, full = Signal(COUNT), Signal()
        m.d.comb += full.eq(tokens == LIMIT)
        with m.If(self.give & ~self.take):
            m.d.sync += tokens.eq(Mux(full, tokens, tokens + 1))
        with m.Elif(self.take & ~self.give):
            m.d.sync += tokens.eq(Mux(tokens == 0, 0, tokens - 1))
        m.d.comb += [
            Assert(tokens == counter.level),
            Assert(tokens <= LIMIT),
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
        from optc.targets.fpga.rtl.counter import TokenCounter

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

    write: In(stream.Signature(4))
    read: Out(stream.Signature(4))

    def __init__(self, fifo: Any, depth: int) -> None:
        self._fifo, self._depth = fifo.Fifo(4, depth), depth
        super().__init__()

    def check(self, m: Module) -> None:
        m.submodules.fifo = fifo = self._fifo
        wiring.connect(m, wiring.flipped(self.write), fifo.write)
        wiring.connect(m, fifo.read, wiring.flipped(self.read))
        level = Signal(COUNT)
        m.d.sync += level.eq(level + passes(self.write) - passes(self.read))
        m.d.comb += [
            Assert(level == fifo.level),
            Assert(level <= self._depth),
            Assert(~self.write.ready | (level < self._depth)),
            Assert(~self.read.valid | (level != 0)),
        ]


class Order(Levels):
    """What is written as any one is read as that one; what waits to be read stays."""

    def check(self, m: Module) -> None:
        super().check(m)
        written, read = counted(m, passes(self.write)), counted(m, passes(self.read))
        which, value = AnyConst(COUNT), Signal(4)
        with m.If(passes(self.write) & (written == which)):
            m.d.sync += value.eq(self.write.payload)
        with m.If(self.read.valid & (read == which)):
            m.d.comb += Assert(self.read.payload == value)
        held(m, self.read)


class Shared(Checked):
    """An arbiter of three: its requests stay, none is lost, and words go to whoever asked for them."""

    requests: Out(requests())
    beats: In(beats())
    requests0: In(requests())
    requests1: In(requests())
    requests2: In(requests())
    readies: In(3)

    def __init__(self, arbiter: Any) -> None:
        self._arbiter = arbiter.Arbiter(3)
        super().__init__()

    def check(self, m: Module) -> None:
        m.submodules.arbiter = arbiter = self._arbiter
        wiring.connect(m, arbiter.requests, wiring.flipped(self.requests))
        wiring.connect(m, wiring.flipped(self.beats), arbiter.beats)
        asked = [getattr(arbiter, f"requests{n}") for n in range(3)]
        found = [getattr(arbiter, f"beats{n}") for n in range(3)]
        for n in range(3):
            wiring.connect(m, wiring.flipped(getattr(self, f"requests{n}")), asked[n])
            m.d.comb += found[n].ready.eq(self.readies[n])
        held(m, self.requests)
        grant = Signal(3)
        m.d.comb += grant.eq(Cat(passes(r) for r in asked))
        m.d.comb += Assert((grant & (grant - 1)[:3]) == 0)  # one at a time
        self._follow(m, asked, found, grant)

    def _follow(self, m: Module, asked: list[Any], found: list[Any], grant: Signal) -> None:
        """Any one burst: it is asked of memory as its client asked, and that client gets its words."""
        which, who, burst = AnyConst(COUNT), Signal(3), Signal.like(Value.cast(self.requests.payload))
        granted, sent = counted(m, grant.any()), counted(m, passes(self.requests))
        ended = counted(m, passes(self.beats) & self.beats.payload.last)
        for n, request in enumerate(asked):
            with m.If(grant[n] & (granted == which)):
                m.d.sync += [who.eq(grant), burst.eq(request.payload)]
        with m.If(self.requests.valid & (sent == which)):
            m.d.comb += Assert(Value.cast(self.requests.payload) == burst)
        # Memory answers what was asked, in order.
        m.d.comb += Assume(~self.beats.valid | (ended < sent))
        with m.If(self.beats.valid & (ended == which)):
            m.d.comb += Assert(Cat(b.valid for b in found) == who)
            m.d.comb += Assert(self.beats.ready == (who & self.readies).any())
