"""The best tiling of a stage, by the timing model."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass

import numpy as np

from optc.models.errors import InputError
from optc.targets.vta.compiler import kept
from optc.targets.vta.compiler.cuts import Tiling
from optc.targets.vta.compiler.driver import drive
from optc.targets.vta.compiler.emit import StageEmitter
from optc.targets.vta.compiler.estimate import Estimator
from optc.targets.vta.compiler.memory import Memories
from optc.targets.vta.compiler.stages import Accumulate, Operand, Stage, Write
from optc.targets.vta.compiler.stream import Stream
from optc.targets.vta.compiler.tiling import tilings
from optc.targets.vta.compiler.uops import UopMemory
from optc.targets.vta.config import Config
from optc.targets.vta.timing import Report, Timing, simulate


@dataclass(frozen=True)
class Machine:
    """What is compiled for; `uops`: micro-ops on the chip."""

    config: Config
    timing: Timing
    uops: int


def alone(stage: Stage, tiling: Tiling, machine: Machine) -> Report:
    """How long the stage takes as a program by itself."""
    addresses: dict[str, int] = {}
    end = 256
    writes = [(s.target, s.extent) for s in stage.steps if isinstance(s, Write)]
    for name, extent in [read for t in stage.terms for read in t.reads] + writes:
        if name not in addresses:
            addresses[name] = end
            end += -(-extent.elements // 256) * 256
    stream = Stream(machine.config, machine.timing, end)
    to = Memories(machine.config, stream, UopMemory(machine.uops), addresses)
    drive(StageEmitter(stage, tiling, to).units(), to)
    return simulate(stream.finish(), machine.config, machine.timing)


TRIED = 10
"""Tilings that the timing model looks at, the best by estimate first."""


class _Memory:
    """What was found in this process; `disk`: whether it is kept there, and looked for."""

    def __init__(self) -> None:
        self.found: dict[tuple[bytes, Machine], tuple[Tiling, int]] = {}
        self.disk = True


_MEMORY = _Memory()


def best_tiling(stage: Stage, machine: Machine) -> tuple[Tiling, int]:
    """The tiling with the fewest cycles, and how many; stages that differ in values only share it."""
    key = (signature(stage), machine)
    if key not in _MEMORY.found:
        kept_one = kept.load(*key) if _MEMORY.disk else None
        _MEMORY.found[key] = kept_one or _search(stage, machine)
        if kept_one is None and _MEMORY.disk:
            kept.save(*key, _MEMORY.found[key])
    return _MEMORY.found[key]


def forget(disk: bool = True) -> None:
    """Search anew from now on, and leave the disk alone; without `disk`, only this process forgets."""
    _MEMORY.found.clear()
    _MEMORY.disk = not disk


def signature(stage: Stage) -> bytes:
    """A hash of all that a tiling depends on."""
    digest = hashlib.sha256(repr((stage.extent, stage.planes)).encode())
    for step in stage.steps:
        digest.update(repr((type(step).__name__, getattr(step, "plane", 0))).encode())
        for term in step.terms if isinstance(step, Accumulate) else ():
            operand = isinstance(term.weights, Operand)
            digest.update(repr((term.extent, term.y, term.x, len(term.weights), operand)).encode())
            digest.update(np.ascontiguousarray(term.index).tobytes())
    return digest.digest()


def _search(stage: Stage, machine: Machine) -> tuple[Tiling, int]:
    estimator = Estimator(stage, machine.config, machine.timing, machine.uops)
    found_tilings = enumerate(tilings(stage, machine.config))
    candidates = sorted((estimator.cycles(cuts, t), n, t) for n, (cuts, t) in found_tilings)
    found: list[tuple[int, int, Tiling]] = []
    for _, number, tiling in candidates:
        try:
            found.append((alone(stage, tiling, machine).cycles, number, tiling))
        except ValueError:
            continue
        if len(found) == TRIED:
            break
    if not found:
        raise InputError(f"'{stage.label}' does not fit this VTA in any tiling")
    cycles, _, tiling = min(found)
    return tiling, cycles
