"""A stage cut into tiles and parts: what that is, and the sizes that follow."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np

from optc.targets.vta.compiler.stages import Accumulate, Index, Operand, Stage, Term

Range = tuple[int, int]
"""First, and the one behind the last."""


@dataclass(frozen=True)
class Buffers:
    """Slots of one size for the parts of a term."""

    size: int
    count: int

    @property
    def room(self) -> int:
        """Elements of all slots."""
        return self.size * self.count


@dataclass(frozen=True)
class Tiling:
    """A tile has `blocks` × `rows` × `columns` outputs.

    `blocks_outer`: all places of a range of blocks, then the next range, instead of all blocks of a place.
    Terms come in parts of so many source blocks (`part_blocks`), each into the next slot of `inputs` and of
    `weights`. One entry for each term of the stage.
    """

    blocks: int
    rows: int
    columns: int
    blocks_outer: bool
    part_blocks: tuple[int, ...]
    inputs: tuple[Buffers, ...]
    weights: tuple[Buffers, ...]


class Density:
    """How many weight blocks of a term each output block has for each source block."""

    def __init__(self, term: Term, blocks: int) -> None:
        counts = np.zeros((blocks + 1, int(term.in_blocks.max(initial=0)) + 1), np.int64)
        np.add.at(counts, (term.index[:, 0] + 1, term.index[:, 1]), 1)
        self._below = np.cumsum(counts, axis=0)
        self.shared = len(term.weights) == 1
        self.varies = isinstance(term.weights, Operand)  # from image to image

    def of(self, blocks: Range) -> Index:
        """Weight blocks for each source block that output blocks of the range read, in order."""
        counts = self._below[blocks[1]] - self._below[blocks[0]]
        return np.asarray(counts[counts > 0])

    def overlap(self, first: Range, second: Range) -> bool:
        """Whether output blocks of both ranges read a source block."""
        counts = [self._below[b] - self._below[a] for a, b in (first, second)]
        return bool(np.any((counts[0] > 0) & (counts[1] > 0)))

    def most(self, block_ranges: Sequence[Range], part: int) -> int:
        """The most weight blocks of a part of `part` source blocks."""
        if self.shared:
            return 1
        found = 1
        for blocks in block_ranges:
            counts = self.of(blocks)
            if len(counts):
                starts = [low for low, _ in ranges(len(counts), part)]
                found = max(found, int(np.add.reduceat(counts, starts).max()))
        return found


class Cuts:
    """A stage with a tile size: the sizes that follow from it."""

    def __init__(self, stage: Stage, blocks: int, rows: int, columns: int) -> None:
        self.stage, self.blocks, self.rows, self.columns = stage, blocks, rows, columns
        self._planes: dict[int, int] = {}

    @cached_property
    def block_ranges(self) -> list[Range]:
        """Output blocks of each tile."""
        return ranges(self.stage.extent.blocks, self.blocks)

    @cached_property
    def row_ranges(self) -> list[Range]:
        """Output rows of each tile."""
        return ranges(self.stage.extent.rows, self.rows)

    @cached_property
    def column_ranges(self) -> list[Range]:
        """Output columns of each tile."""
        return ranges(self.stage.extent.columns, self.columns)

    @cached_property
    def accumulators(self) -> int:
        """ACC elements of a tile, all planes."""
        own = self.rows * self.columns
        for plane in self.stage.planes:
            rows = max(plane.y.span(*r, skip=1)[1] for r in self.row_ranges)
            columns = max(plane.x.span(*r, skip=1)[1] for r in self.column_ranges)
            own += rows * columns
        return own * self.blocks

    def input_plane(self, number: int) -> int:
        """The most INP elements that a source block of term `number` needs for a tile."""
        if number not in self._planes:
            term, (rows, columns) = self.stage.terms[number], self.through(number)
            height = max(term.y.span(*r)[1] for r in rows)
            self._planes[number] = height * max(term.x.span(*r, skip=1)[1] for r in columns)
        return self._planes[number]

    def through(self, number: int) -> tuple[list[Range], list[Range]]:
        """The rows and columns of each tile's plane that term `number` is added to."""
        plane = self.plane_of(number)
        return self._through(plane, 0), self._through(plane, 1)

    def plane_of(self, number: int) -> int:
        """The plane that term `number` is added to."""
        term = self.stage.terms[number]
        steps = (s for s in self.stage.steps if isinstance(s, Accumulate))
        return next(s.plane for s in steps if any(t is term for t in s.terms))

    def _through(self, plane: int, axis: int) -> list[Range]:
        own = self.column_ranges if axis else self.row_ranges
        if plane == 0:
            return own
        described = self.stage.planes[plane - 1]
        spans = [(described.x if axis else described.y).span(*r, skip=1) for r in own]
        return [(first, first + count) for first, count in spans]


def ranges(total: int, size: int) -> list[Range]:
    """`total` cut into pieces of at most `size`, as even as may be."""
    pieces = -(-total // size)
    edges = [total * i // pieces for i in range(pieces + 1)]
    return list(zip(edges, edges[1:], strict=False))


def splits(total: int) -> list[int]:
    """The largest piece when `total` is cut evenly into 1, 2, 3, ... pieces, each size once."""
    return list(dict.fromkeys(-(-total // pieces) for pieces in range(1, total + 1)))


def of_blocks(term: Term, low: int, high: int) -> Index:
    """The rows of the term's index for output blocks from `low` to before `high`."""
    return term.index[(term.index[:, 0] >= low) & (term.index[:, 0] < high)]


def parts_of(rows: Index, part: int) -> list[Index]:
    """The source blocks that `rows` read, in even pieces of at most `part`."""
    sources = np.unique(rows[:, 1])
    return [sources[a:b] for a, b in ranges(len(sources), part)] if len(sources) else []


def vector_elements(stage: Stage) -> int:
    """ACC elements for the stage's constants of one value a channel."""
    return len(stage.vectors) * stage.extent.blocks
