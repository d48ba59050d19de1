"""How a stage is cut into tiles and parts, what of it is on the chip at once, and which cuts to try."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np

from optc.targets.vta.compiler.stages import Accumulate, Index, Operand, Stage, Term
from optc.targets.vta.config import Config, Memory

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


def tilings(stage: Stage, config: Config) -> Iterator[tuple[Cuts, Tiling]]:
    """Tilings that fit the chip, and what follows from their tile; single slots only where no other fit."""
    densities = [Density(t, stage.extent.blocks) for t in stage.terms]
    for slots in (2, 1):
        found = False
        for each in _tilings(stage, config, densities, slots):
            found = True
            yield each
        if found:
            return


def _tilings(
    stage: Stage, config: Config, densities: Sequence[Density], slots: int
) -> Iterator[tuple[Cuts, Tiling]]:
    room = config.depth(Memory.ACC) - vector_elements(stage)
    for blocks in splits(stage.extent.blocks):
        for columns in splits(stage.extent.columns):
            fitting = 0
            for rows in splits(stage.extent.rows):
                cuts = Cuts(stage, blocks, rows, columns)
                tiles = len(cuts.block_ranges) * len(cuts.row_ranges) * len(cuts.column_ranges)
                if cuts.accumulators * min(2, tiles * stage.extent.images) > room:
                    continue
                found = [(cuts, t) for t in _parted(cuts, config, densities, slots)]
                yield from found
                fitting += bool(found)
                if fitting == _ROWS_TRIED:
                    break
            if fitting:
                break  # narrower tiles only read more


_ROWS_TRIED = 4
"""Tile heights tried from the largest that fits; smaller ones have more instructions and more overlap."""


def vector_elements(stage: Stage) -> int:
    """ACC elements for the stage's constants of one value a channel."""
    return len(stage.vectors) * stage.extent.blocks


@dataclass(frozen=True)
class _Needs:
    """INP elements of a source block of a term, how many source blocks a tile reads, their weight blocks."""

    plane: int
    blocks: int
    weights: int

    @property
    def size(self) -> int:
        """Of all in memory, weighed against other terms'."""
        return self.plane * self.blocks + self.weights * 16


def _parted(cuts: Cuts, config: Config, densities: Sequence[Density], slots: int) -> Iterator[Tiling]:
    """Ways to cut the largest term; the others take what is left."""
    needs = [_needs(cuts, number, density) for number, density in enumerate(densities)]
    slots_of = cuts.stage.slots
    groups = [[n for n, first in enumerate(slots_of) if first == g] for g in dict.fromkeys(slots_of)]
    joint = [_Group(tuple(group), needs, densities) for group in groups]
    main = max(
        range(len(joint)),
        key=lambda g: joint[g].needs.plane * joint[g].needs.blocks + joint[g].needs.weights * 16,
    )
    most = joint[main].needs
    for part in splits(most.blocks)[:_PARTS_TRIED]:
        if most.plane * part > config.depth(Memory.INP):
            continue
        places = len(cuts.row_ranges) * len(cuts.column_ranges) * cuts.stage.extent.images
        for order in (False, True) if places > 1 and len(cuts.block_ranges) > 1 else (False,):
            tiling = _filled(cuts, config, joint, main, part, order, slots)
            if tiling is not None:
                yield tiling


def _needs(cuts: Cuts, number: int, density: Density) -> _Needs:
    counts = [density.of(b) for b in cuts.block_ranges]
    blocks, weights = max(len(c) for c in counts), max(int(c.sum()) for c in counts)
    return _Needs(max(cuts.input_plane(number), 1), max(blocks, 1), weights)


class _Group:
    """Terms that share slots on the chip: one, or the parts of one."""

    def __init__(
        self, members: tuple[int, ...], needs: Sequence[_Needs], densities: Sequence[Density]
    ) -> None:
        self.members = members
        own = [needs[n] for n in members]
        self.densities = [densities[n] for n in members]
        self.needs = _Needs(
            max(n.plane for n in own), max(n.blocks for n in own), max(n.weights for n in own)
        )
        self.shared, self.varies = self.densities[0].shared, self.densities[0].varies

    def most(self, block_ranges: Sequence[Range], part: int) -> int:
        """As `Density.most`."""
        return max(d.most(block_ranges, part) for d in self.densities)


_PARTS_TRIED = 40


def of_blocks(term: Term, low: int, high: int) -> Index:
    """The rows of the term's index for output blocks from `low` to before `high`."""
    return term.index[(term.index[:, 0] >= low) & (term.index[:, 0] < high)]


def parts_of(rows: Index, part: int) -> list[Index]:
    """The source blocks that `rows` read, in even pieces of at most `part`."""
    sources = np.unique(rows[:, 1])
    return [sources[a:b] for a, b in ranges(len(sources), part)] if len(sources) else []


def _filled(
    cuts: Cuts, config: Config, groups: Sequence[_Group], main: int, part: int, order: bool, slots: int
) -> Tiling | None:
    places = len(cuts.row_ranges) * len(cuts.column_ranges) * cuts.stage.extent.images
    block_tiles = len(cuts.block_ranges)
    free_inp, free_wgt = config.depth(Memory.INP), config.depth(Memory.WGT)
    sizes, inputs, weights = dict[int, int](), dict[int, Buffers](), dict[int, Buffers]()
    others = [g for g in range(len(groups)) if g != main]
    for number in [*others, main]:
        group, need = groups[number], groups[number].needs
        size = part if number == main else _side_part(need, config)
        pieces = -(-need.blocks // size) * len(group.members)
        again = block_tiles if _spread(group.densities[0], cuts) else 1
        stay = pieces * (places if order else 1)
        inp = _slots(need.plane * size, free_inp, stay, again, number == main, slots)
        stay = 1 if group.shared and not group.varies else pieces * (1 if order else block_tiles)
        uses = places // (cuts.stage.extent.images if group.varies else 1)
        wgt = _slots(group.most(cuts.block_ranges, size), free_wgt, stay, uses, number == main, slots)
        if inp is None or wgt is None:
            return None
        free_inp, free_wgt = free_inp - inp.room, free_wgt - wgt.room
        sizes[number], inputs[number], weights[number] = size, inp, wgt
    for number in others:
        wanted = -(-groups[number].needs.blocks // sizes[number]) * len(groups[number].members)
        more = max(0, min(wanted - inputs[number].count, free_inp // inputs[number].size))
        inputs[number] = Buffers(inputs[number].size, inputs[number].count + more)
        free_inp -= more * inputs[number].size
    back = {n: g for g, group in enumerate(groups) for n in group.members}
    of = [back[n] for n in range(len(back))]
    return Tiling(
        cuts.blocks,
        cuts.rows,
        cuts.columns,
        order,
        tuple(sizes[g] for g in of),
        tuple(inputs[g] for g in of),
        tuple(weights[g] for g in of),
    )


def _side_part(need: _Needs, config: Config) -> int:
    """Source blocks of a part of a term beside the largest: an eighth of INP and of WGT."""
    by_input = config.depth(Memory.INP) // 8 // max(need.plane, 1)
    by_weights = config.depth(Memory.WGT) // 8 * need.blocks // max(need.weights, 1)
    return max(1, min(need.blocks, by_input, by_weights))


def _spread(density: Density, cuts: Cuts) -> bool:
    """Whether tiles of different blocks read the same source blocks."""
    return len(cuts.block_ranges) > 1 and density.overlap(cuts.block_ranges[0], cuts.block_ranges[1])


def _slots(size: int, free: int, resident: int, again: int, main: bool, least: int) -> Buffers | None:
    """Slots for `resident` parts if they are used `again` and fit, else `least`; None where not one fits.

    Every slot more is another address, and other micro-ops.
    """
    most = free // size if size else 0
    if most == 0:
        return None
    if again > 1 and resident <= (most if main else most // 4):
        return Buffers(size, min(most, resident + 1))
    return Buffers(size, min(most, least))
