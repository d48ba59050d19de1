"""Amaranth's simulator for the tests of single modules: clocks, streams with pauses."""

from __future__ import annotations

import random
from collections.abc import Callable, Sequence
from typing import Any

from amaranth import Module, Signal
from amaranth.sim import Simulator

Bench = Callable[[Any], Any]
LIMIT = 50_000
"""Cycles after which something is taken to be stuck."""
_alive: list[Simulator] = []
"""Simulators of failed tests: their coroutines, collected while pytest reports, would stop Python 3.11."""


def simulate(module: Any, *benches: Bench, watchers: Sequence[Bench] = ()) -> None:
    """Run `benches` to their ends, beside `watchers`, which have none; at most `LIMIT` cycles."""
    m, tick = Module(), Signal()
    m.submodules.tested = module
    m.d.sync += tick.eq(~tick)  # there is a clock, also where the module needs none
    simulator = Simulator(m)
    simulator.add_clock(1e-6)
    ended = [False] * len(benches)

    def noted(number: int, bench: Bench) -> Bench:
        async def run(ctx: Any) -> None:
            await bench(ctx)
            ended[number] = True

        return run

    for number, bench in enumerate(benches):
        simulator.add_testbench(noted(number, bench))
    for watcher in watchers:
        simulator.add_testbench(watcher, background=True)
    _alive.append(simulator)
    for _ in range(2 * LIMIT):
        if all(ended):
            break
        simulator.advance()
    else:
        raise AssertionError("a stream is stuck")
    _alive.remove(simulator)


def sender(stream: Any, values: Sequence[Any], pauses: random.Random | None = None) -> Bench:
    """Offers `values`, each until it is taken; with `pauses`, not always at once."""

    async def run(ctx: Any) -> None:
        for value in values:
            if pauses and pauses.random() < 0.5:
                await ctx.tick().repeat(pauses.randint(1, 3))
            ctx.set(stream.payload, value)
            ctx.set(stream.valid, 1)
            await ctx.tick().until(stream.ready)
            ctx.set(stream.valid, 0)

    return run


def receiver(stream: Any, count: int, found: list[Any], pauses: random.Random | None = None) -> Bench:
    """Takes `count` payloads into `found`; with `pauses`, not always at once."""

    async def run(ctx: Any) -> None:
        for _ in range(count):
            if pauses and pauses.random() < 0.5:
                await ctx.tick().repeat(pauses.randint(1, 3))
            ctx.set(stream.ready, 1)
            (payload,) = await ctx.tick().sample(stream.payload).until(stream.valid)
            found.append(payload)
            ctx.set(stream.ready, 0)

    return run


PAUSES = [None, 1, 2]
"""Seeds of the pauses that the two ends of a stream make."""


def pauses(seed: int | None, end: int = 0) -> random.Random | None:
    return None if seed is None else random.Random(2 * seed + end)
