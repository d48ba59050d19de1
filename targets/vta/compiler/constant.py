"""Blocks of a stage's output that nothing but a bias adds to: the compiler computes them, not VTA."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from optc.targets.vta.compiler.linear import ONES, constant_element
from optc.targets.vta.compiler.stages import (
    Accumulate,
    Extent,
    Immediate,
    Reset,
    Stage,
    Step,
    Term,
    Vector,
    Write,
)
from optc.targets.vta.isa import AluOp

Array = NDArray[Any]


@dataclass(frozen=True, eq=False)
class Constant:
    """A block of a tensor in DRAM that holds `values`, int8 (BLOCK,), at every place of every image."""

    target: str
    extent: Extent
    block: int
    values: NDArray[np.int8]


def split(stages: Sequence[Stage], block: int) -> tuple[list[Stage], list[Constant]]:
    """The stages without their constant blocks, and those."""
    pairs = [without_constants(stage, block) for stage in stages]
    return [stage for stage, _ in pairs], [c for _, found in pairs for c in found]


def without_constants(stage: Stage, block: int) -> tuple[Stage, list[Constant]]:
    """The stage without blocks that are the same for all inputs, and those; at least one block stays.

    Those of pruned layers: an output block whose weights are all zero.
    """
    read = np.zeros(stage.extent.blocks, np.bool_)
    for term in stage.terms:
        if term.source != ONES:
            read[term.index[:, 0]] = True
    read[-1] |= not read.any()
    if stage.planes or read.all():
        return stage, []
    gone = np.flatnonzero(~read).tolist()
    found = [c for number in gone for c in _computed(stage, number, block)]
    kept = np.flatnonzero(read)
    steps = tuple(_some(step, kept) for step in stage.steps)
    return Stage(stage.label, replace(stage.extent, blocks=len(kept)), steps, (), stage.macs), found


def _computed(stage: Stage, number: int, block: int) -> list[Constant]:
    """What the steps write to an output block that reads nothing but the constant element."""
    sums = np.zeros(block, np.int32)
    ones = constant_element(1, block)[0].astype(np.int32)
    found = []
    for step in stage.steps:
        if isinstance(step, Reset):
            sums = np.zeros(block, np.int32)
        elif isinstance(step, Accumulate):
            for term in step.terms:
                rows = term.index[term.index[:, 0] == number]
                for at in rows[:, 4]:
                    sums = sums + term.constants[at].astype(np.int32) @ ones
        elif isinstance(step, Write):
            found.append(Constant(step.target, step.extent, step.first_block + number, sums.astype(np.int8)))
        else:
            assert isinstance(step, Immediate | Vector)
            value = step.values[number] if isinstance(step, Vector) else np.int32(step.value)
            sums = _applied(step.op, sums, value)
    return found


def _applied(op: AluOp, x: Array, y: Array | np.int32) -> Array:
    """An ALU operation on int32, as docs/vta.md has it."""
    if op == AluOp.SHR:
        left = np.left_shift(x, np.maximum(-y, 0))
        return np.asarray(np.where(y >= 0, np.right_shift(x, np.maximum(y, 0)), left))
    return np.asarray({AluOp.MIN: np.minimum, AluOp.MAX: np.maximum, AluOp.ADD: np.add}[op](x, y))


def _some(step: Step, kept: Array) -> Step:
    """A step for the blocks `kept` only."""
    if isinstance(step, Accumulate):
        return replace(step, terms=tuple(_some_rows(t, kept) for t in step.terms))
    if isinstance(step, Vector):
        return replace(step, values=step.values[kept])
    if isinstance(step, Write):
        return replace(step, blocks=tuple(kept.tolist()))
    return step


def _some_rows(term: Term, kept: Array) -> Term:
    rows = term.index[np.isin(term.index[:, 0], kept)].copy()
    rows[:, 0] = np.searchsorted(kept, rows[:, 0])
    if len(term.weights) == 1:
        return replace(term, index=rows)
    numbers, rows[:, 4] = np.unique(rows[:, 4], return_inverse=True)
    return replace(term, index=rows, weights=term.constants[numbers])


def written(
    constants: Sequence[Constant], addresses: Mapping[str, int], batch: int
) -> list[tuple[int, Array]]:
    """Where in DRAM (in elements) `constants` stand, and what: int8 (elements, BATCH, BLOCK)."""
    found = []
    for c in constants:
        plane = np.broadcast_to(c.values, (c.extent.plane, batch, c.values.size))
        for image in range(c.extent.images):
            at = addresses[c.target] + (image * c.extent.blocks + c.block) * c.extent.plane
            found.append((at, plane))
    return found
