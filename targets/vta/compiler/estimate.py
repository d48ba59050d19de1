"""A quick estimate of a tiling's cycles, to choose which ones the timing model looks at."""

from __future__ import annotations

import math

from optc.targets.vta.compiler.stages import Accumulate, Channelwise, Combine, Stage, Term, Write
from optc.targets.vta.compiler.tiling import Cuts, Tiling, of_blocks, parts_of
from optc.targets.vta.config import Config, Memory
from optc.targets.vta.timing import WORD_BYTES, Timing


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
    return 2 if isinstance(step, Channelwise) else 1


class Estimator:
    """Estimates for the tilings of one stage."""

    def __init__(self, stage: Stage, config: Config, timing: Timing) -> None:
        self.stage, self.config, self.timing = stage, config, timing
        self.floor = floor(stage)
        self._words = {m: config.element_bytes(m) // WORD_BYTES for m in (Memory.INP, Memory.WGT)}

    def cycles(self, tiling: Tiling) -> float:
        """The larger of compute and memory, and what neither hides."""
        cuts = Cuts(self.stage, tiling.blocks, tiling.rows, tiling.columns)
        places = len(cuts.row_ranges) * len(cuts.column_ranges) * self.stage.extent.images
        block_tiles = len(cuts.block_ranges)
        tiles = places * block_tiles
        compute: float = self.floor + tiles * self.timing.drain * (len(self.stage.steps) - 1)
        memory, begin = 0.0, 0.0
        for number, term in enumerate(self.stage.terms):
            rows = of_blocks(term, *cuts.block_ranges[0])
            parts = len(parts_of(rows, tiling.part_blocks[number]))
            if not parts:
                continue
            groups = _groups(term, cuts)
            compute += tiles * parts * self.timing.drain * groups
            inputs, weights = tiling.inputs[number], tiling.weights[number]
            plane = cuts.input_plane(number)
            sources = min(tiling.part_blocks[number] * parts, len(set(rows[:, 1].tolist())))
            dense = len(term.in_blocks) == sources
            again = places if tiling.blocks_outer else 1
            kept = dense and (again * parts <= inputs.count)
            loads = places * (
                1 if kept or (dense and not tiling.blocks_outer and parts <= inputs.count) else block_tiles
            )
            memory += loads * (sources * plane * self._words[Memory.INP] + 25 * parts)
            stays = parts <= weights.count if tiling.blocks_outer else parts * block_tiles <= weights.count
            blocks = len(term.weights) if len(term.weights) > 1 else 1
            memory += (1 if stays else places) * (blocks * self._words[Memory.WGT] + 25 * parts * block_tiles)
            begin = max(begin, inputs.size * self._words[Memory.INP] + weights.size * self._words[Memory.WGT])
            variants = min(tiles * parts, 2 * math.lcm(min(inputs.count, 4), min(weights.count, 4)))
            compute += variants * len(rows) / parts / 2
        return max(compute, memory) + begin


def _groups(term: Term, cuts: Cuts) -> float:
    """Instructions of a part, on average over the tiles of a column."""

    def kinds(axis: object, spans: list[tuple[int, int]], kernel: int) -> float:
        runs = [{r.number for k in range(kernel) if (r := axis.run(k, *s))} for s in spans]  # type: ignore[attr-defined]
        return sum(len(r) for r in runs) / len(runs)

    return kinds(term.y, cuts.row_ranges, term.y.kernel) * kinds(term.x, cuts.column_ranges, term.x.kernel)
