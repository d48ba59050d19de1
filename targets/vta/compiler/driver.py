"""Stages to a program: units in order, micro-ops one unit ahead."""

from __future__ import annotations

from collections.abc import Iterable

from optc.targets.vta.compiler.emit import Unit
from optc.targets.vta.compiler.memory import Memories
from optc.targets.vta.config import Memory
from optc.targets.vta.isa import Load


def drive(units: Iterable[Unit], to: Memories) -> None:
    """Emit `units`.

    Each unit's micro-ops are loaded before the unit ahead of it computes, and its other loads wait for them:
    so no LOAD UOP, for which the compute module stands still, queues behind a burst of weights.
    """
    before: Unit | None = None
    for unit in units:
        needed = to.uops.request(unit.uops)
        if needed is None:
            _compute(before, to)
            before = None
            to.uops.forget()
            needed = to.uops.request(unit.uops) or []
        after, to.stream.owner = -1, unit.stage
        for sram, dram, count in needed:
            after = to.stream.compute(Load(Memory.UOP, sram, dram, 1, count, count), [])
        _compute(before, to)
        to.stream.owner = unit.stage
        for load in unit.loads:
            to.stream.load(load, after)
            after = -1
        before = unit
    _compute(before, to)


def _compute(unit: Unit | None, to: Memories) -> None:
    if unit:
        to.stream.owner = unit.stage
    for action in unit.actions if unit else ():
        action()
