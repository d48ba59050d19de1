"""Small partition problems, and the best plan of each by trying all."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator, Sequence

from hypothesis import strategies as st

from optc.passes.partition.cluster import Cluster, Device, Link
from optc.passes.partition.plan import Plan, make_plan
from optc.passes.partition.problem import INPUT, Item, Problem, Value, Weight


def cluster(count: int, latency: float = 0.0, speed: float = 1.0, memory: int = 10**9) -> Cluster:
    """Equal devices, a link between each two."""
    devices = tuple(Device(f"d{i}", 1.0, 1.0, memory) for i in range(count))
    names = [d.name for d in devices]
    link = Link(latency, speed)
    return Cluster("test", devices, {(a, b): link for i, a in enumerate(names) for b in names[i + 1 :]})


@st.composite
def clusters(draw: st.DrawFn, count: int) -> Cluster:
    """Equal devices, links of two kinds."""
    on = cluster(count)
    kinds = st.sampled_from([Link(1.0, 2.0), Link(5.0, 0.5)])
    return Cluster("drawn", on.devices, {ends: draw(kinds) for ends in on.links})


def chain(seconds: Sequence[float], sizes: Sequence[int], weights: Sequence[int] = ()) -> Problem:
    """Item i sends sizes[i] bytes to item i + 1; the last one's result is kept."""
    last = len(seconds) - 1
    values = [Value("x", INPUT, (0,), sizes[0])]
    values += [Value(f"v{i}", i, (i + 1,) if i < last else (), b, i == last) for i, b in enumerate(sizes)]
    held = tuple(Weight(f"w{i}", (i,), b) for i, b in enumerate(weights))
    return Problem(tuple(Item(f"i{i}", s) for i, s in enumerate(seconds)), tuple(values), held)


@st.composite
def chains(draw: st.DrawFn) -> Problem:
    """Up to 8 items."""
    size = draw(st.integers(1, 8))
    seconds = draw(st.lists(st.integers(0, 9), min_size=size, max_size=size))
    sizes = draw(st.lists(st.integers(0, 9), min_size=size, max_size=size))
    return chain([float(s) for s in seconds], sizes, [draw(st.integers(0, 9)) for _ in range(size)])


@st.composite
def dags(draw: st.DrawFn) -> Problem:
    """Up to 7 items, with shared values and weights."""
    size = draw(st.integers(1, 7))
    items = tuple(Item(f"i{i}", float(draw(st.integers(0, 9)))) for i in range(size))
    values = []
    for place in range(INPUT, size):
        readers = draw(st.sets(st.integers(place + 1, size), max_size=3)) - {size}
        values.append(Value(f"v{place}", place, tuple(sorted(readers)), draw(st.integers(0, 9)), not readers))
    shared = draw(st.sets(st.integers(0, size - 1), min_size=1, max_size=3))
    weights = (Weight("shared", tuple(sorted(shared)), draw(st.integers(0, 9))),)
    return Problem(items, tuple(values), weights)


@st.composite
def unequal(draw: st.DrawFn) -> Problem:
    """Items that take other seconds on each of four devices."""
    problem = draw(dags() | chains())
    times = st.lists(st.integers(0, 9).map(float), min_size=len(problem.items), max_size=len(problem.items))
    return dataclasses.replace(problem, times=tuple(tuple(draw(times)) for _ in range(4)))


def every(problem: Problem, count: int) -> Iterator[tuple[int, ...]]:
    """Every convex partition into `count` stages, none empty."""

    def extend(stage: tuple[int, ...]) -> Iterator[tuple[int, ...]]:
        place = len(stage)
        if place == len(problem.items):
            if len(set(stage)) == count:
                yield stage
            return
        made = [stage[v.producer] for v in problem.values if place in v.readers and v.producer != INPUT]
        for at in range(max(made, default=0), count):
            yield from extend((*stage, at))

    return extend(())


def best_of_all(problem: Problem, on: Cluster, count: int) -> Plan | None:
    """The best plan that fits the devices' memory, None where none does."""
    plans = [make_plan(problem, on, stage) for stage in every(problem, count)]
    limits = [d.memory_bytes for d in on.devices]
    fitting = [p for p in plans if all(m <= limit for m, limit in zip(p.memory, limits, strict=False))]
    return min(fitting, key=lambda plan: plan.bottleneck, default=None)
