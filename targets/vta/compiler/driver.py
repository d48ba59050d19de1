"""Stages to a program: units in order, micro-ops some units ahead."""

from __future__ import annotations

from collections.abc import Iterable, Iterator

from optc.targets.vta.compiler.emit import Unit
from optc.targets.vta.compiler.memory import Memories
from optc.targets.vta.compiler.uops import Sequences
from optc.targets.vta.config import Memory
from optc.targets.vta.isa import Load

_SHARE = 4
"""What part of the chip's micro-ops one LOAD UOP brings, at most."""


def drive(units: Iterable[Unit], to: Memories) -> None:
    """Emit `units`.

    The micro-ops of several units are loaded at once, before the last unit ahead of them computes, and the
    other loads behind wait for that: so no LOAD UOP, for which the compute module stands still, queues behind
    a burst of weights.
    """
    before: Unit | None = None
    for batch, wanted in _batches(units, to.uops.depth // _SHARE):
        needed = to.uops.request(wanted)
        if needed is None:
            _compute(before, to)
            before = None
            to.uops.forget()
            needed = to.uops.request(wanted) or []
        after, to.stream.owner = -1, batch[0].stage
        for sram, dram, count in needed:
            after = to.stream.compute(Load(Memory.UOP, sram, dram, 1, count, count), [])
        for unit in batch:
            _compute(before, to)
            to.stream.owner = unit.stage
            for load in unit.loads:
                to.stream.load(load, after)
                after = -1
            before = unit
    _compute(before, to)


def _batches(units: Iterable[Unit], most: int) -> Iterator[tuple[list[Unit], Sequences]]:
    """Neighbouring units and their micro-ops, at most `most` where more than one unit."""
    batch: list[Unit] = []
    wanted: Sequences = {}
    for unit in units:
        more = {**wanted, **unit.uops}
        if batch and sum(w.size for w in more.values()) > most:
            yield batch, wanted
            batch, more = [], dict(unit.uops)
        batch.append(unit)
        wanted = more
    if batch:
        yield batch, wanted


def _compute(unit: Unit | None, to: Memories) -> None:
    if unit:
        to.stream.owner = unit.stage
    for action in unit.actions if unit else ():
        action()
