"""Which cuts of a stage fit the chip."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from optc.targets.vta.compiler.cuts import (
    Buffers,
    Cuts,
    Density,
    Range,
    Tiling,
    splits,
    vector_elements,
)
from optc.targets.vta.compiler.stages import Stage
from optc.targets.vta.config import Config, Memory


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
