"""VTA: fetch, load, compute and store, their tokens and memories, one memory port, and the registers."""

from typing import Any

from amaranth import Cat, Elaboratable, Module, Signal, Value
from amaranth.lib import stream, wiring
from amaranth.lib.wiring import In, Out

from optc.targets.fpga.rtl.arbiter import Arbiter
from optc.targets.fpga.rtl.banks import Banks
from optc.targets.fpga.rtl.compute import Compute
from optc.targets.fpga.rtl.counter import TokenCounter
from optc.targets.fpga.rtl.fetch import Fetch
from optc.targets.fpga.rtl.fifo import Fifo
from optc.targets.fpga.rtl.gate import Gate
from optc.targets.fpga.rtl.layouts import INSTRUCTION_BITS, beats, log_words, requests
from optc.targets.fpga.rtl.load import Load
from optc.targets.fpga.rtl.store import Store, WriteWord
from optc.targets.vta.config import Config, Memory

QUEUE = 512
"""Instructions that a module's queue holds."""
PATIENCE = 1 << 20
"""Cycles without a step, a word, or the end of an instruction after which a program is taken to be stuck."""


class Core(wiring.Component):
    """Runs the program of `count` instructions at `address` from `launch` on.

    `finished`: the program ended, or an `error` came up: bit 0, an instruction that VTA does not define; 1, a
    place beyond a memory on the chip or a shift that VTA has not; 2, more tokens than a counter holds; 3, no
    progress; 4, memory answered with an error; 5, tokens were left at the end, or a load or store still ran.
    `cycles` counts from launch to finish. Launching again needs a reset.
    """

    def __init__(self, config: Config, queue: int = QUEUE, patience: int = PATIENCE) -> None:
        self._config, self._queue, self._patience = config, queue, patience
        super().__init__(
            {
                "launch": In(1),
                "address": In(32),
                "count": In(22),
                "finished": Out(1),
                "error": Out(6),
                "cycles": Out(32),
                "reads": Out(requests()),
                "beats": In(beats()),
                "writes": Out(requests()),
                "words": Out(stream.Signature(WriteWord)),
                "answer": In(1),
                "fault": In(1),
            }
        )

    def elaborate(self, platform: object) -> Elaboratable:
        """The modules and what connects them."""
        m = Module()
        config = self._config
        m.submodules.fetch = fetch = Fetch(config)
        m.submodules.load = load = Load(config)
        m.submodules.compute = compute = Compute(config)
        m.submodules.store = store = Store(config)
        m.submodules.arbiter = arbiter = Arbiter(3)
        clients: tuple[Any, ...] = (fetch, compute, load)
        for number, client in enumerate(clients):
            wiring.connect(m, client.requests, getattr(arbiter, f"requests{number}"))
            wiring.connect(m, client.beats, getattr(arbiter, f"beats{number}"))
        wiring.connect(m, wiring.flipped(self.reads), arbiter.requests)
        wiring.connect(m, wiring.flipped(self.beats), arbiter.beats)
        wiring.connect(m, wiring.flipped(self.writes), store.requests)
        wiring.connect(m, wiring.flipped(self.words), store.words)
        self._memories(m, load, compute, store)
        overflow, waiting = self._tokens(m, fetch, load, compute, store)
        running = Signal()
        m.d.comb += [fetch.start.eq(self.launch & ~running), fetch.address.eq(self.address)]
        m.d.comb += [fetch.count.eq(self.count), store.answer.eq(self.answer)]
        ended = Signal()
        m.d.comb += ended.eq(compute.retired & compute.flags.finish)
        beat, word = self.beats.valid & self.beats.ready, self.words.valid & self.words.ready
        progress = load.done | compute.retired | store.done | compute.steps | beat | word
        errors = Cat(
            fetch.refused,
            load.refused | compute.refused | store.refused,
            overflow,
            self._stuck(m, running, progress),
            self.fault,
            ended & (waiting | load.busy | store.busy),
        )
        with m.If(self.launch):
            m.d.sync += running.eq(1)
        # Errors come from everywhere: they have a cycle to get here, also those of the last instruction.
        caught, over = Signal(len(errors)), Signal()
        with m.If(running & ~self.finished):
            m.d.sync += [caught.eq(errors), over.eq(over | ended), self.error.eq(self.error | caught)]
            m.d.sync += [self.finished.eq(over | caught.any()), self.cycles.eq(self.cycles + (over == 0))]
        return m

    def _stuck(self, m: Module, running: Signal, progress: Signal) -> Signal:
        waited, stuck = Signal(range(self._patience + 1)), Signal()
        m.d.comb += stuck.eq(waited == self._patience)
        with m.If(~running | progress):
            m.d.sync += waited.eq(0)
        with m.Elif(~stuck):
            m.d.sync += waited.eq(waited + 1)
        return stuck

    def _memories(self, m: Module, load: Load, compute: Compute, store: Store) -> None:
        for name, memory in (("inp", Memory.INP), ("wgt", Memory.WGT)):
            log = log_words(memory, self._config)
            count, width = 1 << max(log, 0), 32 if log < 0 else 64
            banks = Banks(self._config.depth(memory), count, width)
            m.submodules[name] = banks
            write = getattr(load, f"{name}_write")
            m.d.comb += [
                banks.write_index.eq(write.index),
                banks.enable.eq(write.enable),
                banks.data.eq(write.data.replicate(count)),
                banks.read_index.eq(getattr(compute, f"{name}_index")),
                getattr(compute, f"{name}_value").eq(banks.value),
            ]
        m.d.comb += [compute.out_index.eq(store.out_index), store.out_value.eq(compute.out_value)]

    def _tokens(
        self, m: Module, fetch: Fetch, load: Load, compute: Compute, store: Store
    ) -> tuple[Value, Value]:
        """Queues, gates, the four counters; whether one of these overflows, and whether anything waits."""
        gates, waiting = {}, []
        for name, module in (("load", load), ("compute", compute), ("store", store)):
            m.submodules[f"{name}_queue"] = queue = Fifo(INSTRUCTION_BITS, self._queue)
            m.submodules[f"{name}_gate"] = gates[name] = gate = Gate()
            wiring.connect(m, getattr(fetch, name), queue.write)
            wiring.connect(m, queue.read, gate.instructions)
            waiting.append(queue.read.valid)
            wiring.connect(m, gate.ready_instructions, module.instructions)
        counters = {}
        for name in ("l2g", "g2l", "g2s", "s2g"):
            m.submodules[name] = counters[name] = TokenCounter()
        wires = (
            (counters["l2g"], load.done & load.flags.push_next, gates["compute"], "prev"),
            (counters["g2l"], compute.retired & compute.flags.push_prev, gates["load"], "next"),
            (counters["g2s"], compute.retired & compute.flags.push_next, gates["store"], "prev"),
            (counters["s2g"], store.done & store.flags.push_prev, gates["compute"], "next"),
        )
        for counter, give, gate, side in wires:
            m.d.comb += [
                counter.give.eq(give),
                counter.take.eq(getattr(gate, f"{side}_take")),
                getattr(gate, f"{side}_available").eq(counter.available),
            ]
        waiting += [c.available for c in counters.values()]
        return Cat(c.overflow for c in counters.values()).any(), Cat(waiting).any()
