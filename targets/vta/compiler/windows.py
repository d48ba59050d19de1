"""Where the taps of a window read and write, as instructions."""

from __future__ import annotations

from collections.abc import Hashable, Sequence
from functools import lru_cache

import numpy as np

from optc.targets.vta.compiler.cuts import Range
from optc.targets.vta.compiler.nest import Index, Loop, Nest, nests
from optc.targets.vta.compiler.stages import (
    Axis,
    Run,
)


def through(axis: Axis, outputs: Range) -> Range:
    """The positions of the source that outputs read."""
    first, count = axis.span(*outputs, skip=1)
    return first, first + count


@lru_cache(maxsize=4096)
def relative(axis: Axis, outputs: Range) -> Hashable:
    """What the taps do for `outputs`, but for where they and what they read begin."""
    first = axis.span(*outputs)[0]
    runs = [axis.run(tap, *outputs) for tap in range(axis.kernel)]
    return tuple(run and (run.first - outputs[0], run.number, run.source - first) for run in runs)


def windowed(
    axes: tuple[Axis, Axis],
    outputs: tuple[Range, Range],
    origin: tuple[int, int],
    widths: tuple[int, int, int],
    taps: Index,
    relative: Index,
    blocks: Index,
) -> list[Nest]:
    """Instructions for items (dst, src, wgt) of taps (ky, kx), which begin at (0, 0) of their planes.

    `outputs`: rows and columns; `origin`: the first row and column of the source; `widths`: columns of the
    destination and of the source on the chip, and how many source rows lie between two on the chip.
    """
    (y, x), (rows, columns), (dst_width, src_width, skip) = axes, outputs, widths
    by_row = [y.run(k, *rows) for k in range(y.kernel)]
    by_column = [x.run(k, *columns) for k in range(x.kernel)]
    groups: dict[tuple[int, int, int, int], list[int]] = {}
    offsets: list[tuple[int, int, int]] = []
    for item, (ky, kx) in enumerate(taps.tolist()):
        r, c = by_row[ky], by_column[kx]
        if r is None or c is None:
            offsets.append((0, 0, 0))
            continue
        dst = (r.first - rows[0]) * dst_width + c.first - columns[0]
        src = (r.source - origin[0]) // skip * src_width + c.source - origin[1]
        offsets.append((dst, src, 0))
        groups.setdefault((r.number, c.number, *_steps(r, c)), []).append(item)
    moved = relative + np.array(offsets, np.int64).reshape(-1, 3)
    found: list[Nest] = []
    for (height, width, *_), items in groups.items():
        r, c = _an_example(by_row, height), _an_example(by_column, width)
        outer = Loop(height, r.step * dst_width, r.source_step // skip * src_width)
        found += nests(moved[items], blocks[items], outer, Loop(width, c.step, c.source_step))
    return found


def _steps(row: Run, column: Run) -> tuple[int, int]:
    return row.step, column.step


def _an_example(runs: Sequence[Run | None], count: int) -> Run:
    return next(r for r in runs if r is not None and r.number == count)
