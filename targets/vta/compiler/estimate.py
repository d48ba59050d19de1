"""A quick estimate of a tiling's cycles, to choose which ones the timing model looks at."""

from __future__ import annotations

import math
from collections.abc import Sequence

from optc.targets.vta.compiler.cuts import Cuts, Density, Range, Tiling, vector_elements
from optc.targets.vta.compiler.stages import Accumulate, Axis, Combine, Operand, Stage, Term, Vector, Write
from optc.targets.vta.config import Config, Memory
from optc.targets.vta.timing import WORD_BYTES, Timing

STORE_CYCLES = 3
"""Of an element of 16 bytes."""


def floor(stage: Stage) -> int:
    """Cycles of all GEMM steps and ALU passes, whatever the tiling."""
    extent = stage.extent
    total = sum(term_steps(stage, t) for t in stage.terms)
    for step in stage.steps:
        if not isinstance(step, Accumulate | Write):
            total += _passes(stage, step) * extent.elements
    return total


def term_steps(stage: Stage, term: Term) -> int:
    """GEMM steps of a term over the whole output."""
    plane = next(
        s.plane for s in stage.steps if isinstance(s, Accumulate) and any(t is term for t in s.terms)
    )
    rows, columns = stage.extent.rows, stage.extent.columns
    if plane:
        described = stage.planes[plane - 1]
        rows, columns = described.y.size, described.x.size
    by_row = [(r.number if (r := term.y.run(k, 0, rows)) else 0) for k in range(term.y.kernel)]
    by_column = [(r.number if (r := term.x.run(k, 0, columns)) else 0) for k in range(term.x.kernel)]
    each = (by_row[ky] * by_column[kx] for _, _, ky, kx, _ in term.index.tolist())
    return int(stage.extent.images * sum(each))


def _passes(stage: Stage, step: object) -> int:
    if isinstance(step, Combine):
        plane = stage.planes[max(step.source, step.plane) - 1]
        return 2 * plane.y.kernel * plane.x.kernel
    return 2 if isinstance(step, Vector) else 1


class Estimator:
    """Estimates for the tilings of one stage."""

    def __init__(self, stage: Stage, config: Config, timing: Timing, uops: int) -> None:
        self.uops = uops
        self.stage, self.config, self.timing = stage, config, timing
        self.floor = floor(stage)
        self._words = {m: config.element_bytes(m) // WORD_BYTES for m in (Memory.INP, Memory.WGT)}
        self._densities = [Density(t, stage.extent.blocks) for t in stage.terms]
        self._groups: dict[tuple[int, int, int], float] = {}

    def cycles(self, cuts: Cuts, tiling: Tiling) -> float:
        """The larger of compute and memory, and what neither hides."""
        places = len(cuts.row_ranges) * len(cuts.column_ranges) * self.stage.extent.images
        block_tiles = len(cuts.block_ranges)
        tiles = places * block_tiles
        compute: float = self.floor + tiles * self.timing.drain * (len(self.stage.steps) - 1)
        compute += self._waits(cuts)
        memory = begin = kept = each_time = 0.0
        for number, term in enumerate(self.stage.terms):
            counts = self._densities[number].of(cuts.block_ranges[0])
            sources = len(counts)
            if not sources:
                continue
            parts = -(-sources // tiling.part_blocks[number])
            compute += tiles * parts * self.timing.drain * self._instructions(number, cuts)
            inputs, weights = tiling.inputs[number], tiling.weights[number]
            dense = len(term.in_blocks) == sources
            again = places if tiling.blocks_outer else 1
            loads = places * (1 if dense and again * parts <= inputs.count else block_tiles)
            memory += loads * (sources * cuts.input_plane(number) * self._words[Memory.INP] + 25 * parts)
            stays = parts * (1 if tiling.blocks_outer else block_tiles) <= weights.count
            blocks = block_tiles * parts if len(term.weights) == 1 else len(term.weights)
            times = self.stage.extent.images if isinstance(term.weights, Operand) else 1
            each = blocks * self._words[Memory.WGT] + 25 * parts * block_tiles
            memory += (times if stays else places) * each
            if inputs.count == 1 or weights.count == 1 < parts:
                compute += loads * sources * cuts.input_plane(number) * self._words[Memory.INP]
            begin = max(begin, inputs.size * self._words[Memory.INP] + weights.size * self._words[Memory.WGT])
            variants = min(tiles * parts, 2 * math.lcm(min(inputs.count, 4), min(weights.count, 4)))
            kept += variants * int(counts.sum()) / parts
            each_time += tiles * int(counts.sum())
        compute += kept / 2 if kept <= self.uops else each_time / 2 + memory / 2
        return max(compute, memory) + begin

    def _waits(self, cuts: Cuts) -> int:
        """For stores: what follows a Write can hide behind the sums of as many tiles as ACC holds beside."""
        writes = sum(isinstance(s, Write) for s in self.stage.steps)
        held = (self.config.depth(Memory.ACC) - vector_elements(self.stage)) // cuts.accumulators
        waited_for = max(0, 2 * (writes - 1) - max(held, 2))  # as measured: two tiles a Write hide all
        return waited_for * STORE_CYCLES * self.stage.extent.elements

    def _instructions(self, number: int, cuts: Cuts) -> float:
        """Instructions of a part, on average over the tiles."""
        key = (number, cuts.rows, cuts.columns)
        if key not in self._groups:
            term = self.stage.terms[number]
            rows, columns = cuts.through(number)
            self._groups[key] = _kinds(term.y, rows) * _kinds(term.x, columns)
        return self._groups[key]


def _kinds(axis: Axis, spans: Sequence[Range]) -> float:
    """How many different lengths the runs of the taps have, on average."""
    runs = [{r.number for k in range(axis.kernel) if (r := axis.run(k, *s))} for s in spans]
    return sum(len(r) for r in runs) / len(runs)
