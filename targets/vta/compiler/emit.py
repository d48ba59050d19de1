"""A stage under a tiling as units of work: loads, micro-ops, instructions."""

from __future__ import annotations

from collections.abc import Callable, Hashable, Iterator, Sequence
from dataclasses import dataclass, field
from functools import partial
from itertools import pairwise

import numpy as np

from optc.targets.vta.compiler.cuts import Buffers, Cuts, Range, Tiling, of_blocks, parts_of
from optc.targets.vta.compiler.memory import Memories, Slots
from optc.targets.vta.compiler.nest import Index, Loop, Nest
from optc.targets.vta.compiler.stages import (
    Accumulate,
    Axis,
    Combine,
    Operand,
    Reset,
    Stage,
    Step,
    Term,
    Vector,
    Write,
)
from optc.targets.vta.compiler.tiles import Box, Tile, in_order
from optc.targets.vta.compiler.uops import Words
from optc.targets.vta.compiler.windows import relative, through, windowed
from optc.targets.vta.config import Memory
from optc.targets.vta.isa import Alu, AluOp, Gemm, Load, Store, encode_uops

_WIDEST = (1 << 16) - 1
"""What a size or a stride of LOAD and STORE holds."""


@dataclass(eq=False)
class Unit:
    """A piece of work of a stage (its number): micro-ops that it needs, LOADs, and the rest."""

    stage: int = 0
    uops: dict[Hashable, Words] = field(default_factory=dict)
    loads: list[Load] = field(default_factory=list)
    actions: list[Callable[[], object]] = field(default_factory=list)


class StageEmitter:
    """Emits one stage into memories and their stream."""

    def __init__(self, stage: Stage, tiling: Tiling, memories: Memories, number: int = 0) -> None:
        """`number`: of the stage among those that share the memories."""
        self.stage, self.to, self.number = stage, memories, number
        self.cuts = Cuts(stage, tiling.blocks, tiling.rows, tiling.columns)
        self.tiling = tiling
        room = len(stage.vectors) * stage.extent.blocks
        size = self.cuts.accumulators
        fitting = (memories.config.depth(Memory.ACC) - room) // size
        writes = sum(isinstance(s, Write) for s in stage.steps)
        count = max(1, min(fitting, 1 + writes))
        top = memories.config.depth(Memory.ACC) - count * size
        # Where the last tile of the stage before may still be stored the first one would have to wait.
        low, high = memories.last_tile
        self._acc = Slots(top if low < room + size and room < high and top >= high else room, size, count)
        self._inputs, self._weights = (_slots(b, stage.slots) for b in (tiling.inputs, tiling.weights))
        self._numbers = {id(t): n for n, t in enumerate(stage.terms)}
        self._patterns: dict[Hashable, list[Nest]] = {}
        self._packed: dict[Hashable, int] = {}
        self._encoded: dict[Hashable, Words] = {}
        self._used: dict[Hashable, Index] = {}

    def units(self) -> Iterator[Unit]:
        """The stage's work in order; a part of a term begins a new unit."""
        unit = Unit(self.number)
        self._load_vectors(unit)
        started = False
        for tile, step in in_order(self.stage.steps, self._tiles(), self._acc.count):
            if isinstance(step, Accumulate):
                for term in step.terms:
                    for chosen in self._parts_of(term, tile):
                        if started:
                            yield unit
                            unit = Unit(self.number)
                        started = True
                        self._part(unit, tile, step.plane, term, chosen)
            else:
                self._step(unit, tile, step)
        yield unit

    def _tiles(self) -> Iterator[Tile]:
        cuts = self.cuts
        places = [
            (image, rows, columns)
            for image in range(self.stage.extent.images)
            for rows in cuts.row_ranges
            for columns in cuts.column_ranges
        ]
        if self.tiling.blocks_outer:
            order = [(b, p) for b in cuts.block_ranges for p in places]
        else:
            order = [(b, p) for p in places for b in cuts.block_ranges]
        for number, (blocks, (image, rows, columns)) in enumerate(order):
            base, _ = self._acc.take(number)
            self.to.last_tile = base, base + self.cuts.accumulators
            boxes = [Box(rows, columns, base)]
            for plane in self.stage.planes:
                base += boxes[-1].plane * (blocks[1] - blocks[0])
                boxes.append(Box(through(plane.y, rows), through(plane.x, columns), base))
            yield Tile(image, blocks, tuple(boxes))

    def _load_vectors(self, unit: Unit) -> None:
        for number, step in enumerate(self.stage.vectors):
            count = len(step.values)
            at = self.to.add_vectors(step.values)
            load = Load(Memory.ACC, number * count, at, 1, count, count)
            span = (number * count, (number + 1) * count)
            unit.actions.append(partial(self.to.stream.compute, load, [span]))

    def _parts_of(self, term: Term, tile: Tile) -> list[Index]:
        rows = of_blocks(term, *tile.blocks)
        return parts_of(rows, self.tiling.part_blocks[self._numbers[id(term)]])

    def _part(self, unit: Unit, tile: Tile, plane: int, term: Term, chosen: Index) -> None:
        """Load a part of a term and multiply."""
        number, box = self._numbers[id(term)], tile.boxes[plane]
        y, x = term.y.span(*box.rows), term.x.span(*box.columns, skip=1)
        if not (y[1] and x[1]):
            return
        image = min(tile.image, term.extent.images - 1)
        inp, there = self._inputs[number].take((image, chosen.tobytes(), y, x))
        if not there:
            unit.loads += self._input(term, image, chosen, y, x, inp)
        where = (number, tile.blocks, int(chosen[0]), int(chosen[-1]))
        if where not in self._used:
            self._used[where] = self._chosen_weights(term, tile.blocks, chosen)
        weights = self._used[where]
        key = self._weights_key(term, image, where)
        wgt, there = self._weights[number].take(key)
        if not there:
            unit.loads[:0] = self._weight_loads(term, image, key, weights, wgt)
        reads = [
            (Memory.INP, (inp, inp + len(chosen) * y[1] * x[1])),
            (Memory.WGT, (wgt, wgt + len(weights))),
        ]
        acc, shape = tile.span(plane), self._name(number, tile, plane, chosen)
        if shape not in self._patterns:
            self._patterns[shape] = self._nests(term, tile, plane, chosen, y, x)
        for index, nest in enumerate(self._patterns[shape]):
            name = (self.number, *shape, index, box.base, inp, wgt)
            unit.uops[name] = self._words(name, nest.uops, (box.base, inp, wgt))
            unit.actions.append(partial(self._gemm, name, nest, acc, reads))

    def _name(self, number: int, tile: Tile, plane: int, chosen: Index) -> tuple[Hashable, ...]:
        """What tells one set of relative micro-ops from another."""
        box, term = tile.boxes[plane], self.stage.terms[number]
        y, x = relative(term.y, box.rows), relative(term.x, box.columns)
        dense = self._dense(number)
        where = len(chosen) if dense else (tile.blocks, int(chosen[0]), int(chosen[-1]))
        return number, tile.count, where, box.width, box.plane, y, x

    def _weights_key(self, term: Term, image: int, where: tuple[Hashable, ...]) -> Hashable:
        """What tells the weights of a part from others."""
        if isinstance(term.weights, Operand):
            return where, image
        return where[0] if len(term.weights) == 1 else where

    def _weight_loads(
        self, term: Term, image: int, key: Hashable, weights: Index, wgt: int
    ) -> Iterator[Load]:
        """LOADs of the weight blocks `weights`, ascending: constants, or some of each row of an operand's."""
        if not isinstance(term.weights, Operand):
            at = self._packed.get(key)
            if at is None:
                at = self._packed[key] = self.to.add_weights(term, weights)
            yield Load(Memory.WGT, wgt, at, 1, len(weights), len(weights))
            return
        first = self.to.operand(term.weights) + image * len(term.weights) + int(weights[0])
        apart = np.flatnonzero(np.diff(weights) > 1) + 1
        width = int(apart[0]) if len(apart) else len(weights)
        height = len(weights) // width
        step = int(weights[width] - weights[0]) if height > 1 else width
        rectangle = np.add.outer(step * np.arange(height), np.arange(width))
        assert np.array_equal(rectangle.reshape(-1), weights - weights[0])
        yield Load(Memory.WGT, wgt, first, height, width, step)

    def _dense(self, number: int) -> bool:
        """Whether every output block reads every source block at every tap, each with weights of its own."""
        term = self.stage.terms[number]
        every = self.stage.extent.blocks * len(term.in_blocks) * term.y.kernel * term.x.kernel
        return len(term.index) == every == len(term.weights)

    def _chosen_weights(self, term: Term, blocks: Range, chosen: Index) -> Index:
        rows = of_blocks(term, *blocks)
        return np.unique(rows[np.isin(rows[:, 1], chosen), 4])

    def _nests(self, term: Term, tile: Tile, plane: int, chosen: Index, y: Range, x: Range) -> list[Nest]:
        """The instructions of a part, relative to its buffers."""
        box = tile.boxes[plane]
        rows = of_blocks(term, *tile.blocks)
        rows = rows[np.isin(rows[:, 1], chosen)]
        weights = self._chosen_weights(term, tile.blocks, chosen)
        dst = (rows[:, 0] - tile.blocks[0]) * box.plane
        src = np.searchsorted(chosen, rows[:, 1]) * (y[1] * x[1])
        wgt = np.searchsorted(weights, rows[:, 4])
        return windowed(
            (term.y, term.x),
            (box.rows, box.columns),
            (y[0], x[0]),
            (box.width, x[1], term.y.skip),
            rows[:, 2:4],
            np.stack([dst, src, wgt], axis=1),
            rows[:, 0],
        )

    def _input(self, term: Term, image: int, chosen: Index, y: Range, x: Range, inp: int) -> Iterator[Load]:
        """LOADs of rows `y` and columns `x` of the chosen blocks, block after block."""
        extent, skip = term.extent, term.y.skip
        base = self.to.addresses[term.source] + image * extent.blocks * extent.plane
        corner = y[0] * extent.columns + x[0]
        first = base + (term.first_block + int(chosen[0])) * extent.plane + corner
        whole = (x[1] == extent.columns and skip == 1) or y[1] == 1
        length = y[1] * x[1]
        if (
            whole
            and len(chosen) == chosen[-1] - chosen[0] + 1
            and (extent.plane <= _WIDEST or len(chosen) == 1)
        ):
            yield Load(Memory.INP, inp, first, len(chosen), length, min(extent.plane, _WIDEST))
            return
        for number, block in enumerate(chosen):
            start = first + int(block - chosen[0]) * extent.plane
            if whole:
                yield Load(Memory.INP, inp + number * length, start, 1, length, length)
            else:
                step = extent.columns * skip
                yield Load(Memory.INP, inp + number * length, start, y[1], x[1], step)

    def _step(self, unit: Unit, tile: Tile, step: Step) -> None:
        """A step that loads nothing."""
        if isinstance(step, Write):
            unit.actions += [partial(self.to.stream.store, s) for s in self._stores(tile, step)]
            return
        assert not isinstance(step, Accumulate)
        box, acc = tile.boxes[step.plane], tile.span(step.plane)
        if isinstance(step, Combine):
            self._combine(unit, tile, step)
            return
        if isinstance(step, Vector):
            number = next(n for n, s in enumerate(self.stage.vectors) if s is step)
            vector = number * self.stage.extent.blocks + tile.blocks[0]
            uops = np.array([[box.base, vector, 0]])
            nest = Nest(uops, Loop(tile.count, box.plane, 1), Loop(box.plane, 1, 0))
            self._alu(unit, step.op, None, nest, acc)
            return
        src = 0 if isinstance(step, Reset) else box.base
        every = acc[1] - acc[0]
        nest = Nest(
            np.array([[box.base, src, 0]]), _ONCE, Loop(every, 1, 0 if isinstance(step, Reset) else 1)
        )
        if isinstance(step, Reset):
            name = self._ask(unit, nest)
            unit.actions.append(partial(self._gemm, name, nest, acc, [], reset=True))
        else:
            self._alu(unit, step.op, step.value, nest, acc)

    def _combine(self, unit: Unit, tile: Tile, step: Combine) -> None:
        to, source = tile.boxes[step.plane], tile.boxes[step.source]
        plane = self.stage.planes[max(step.source, step.plane) - 1]
        if plane.y == Axis(plane.y.size) and plane.x == Axis(plane.x.size):
            uops = np.array([[to.base, source.base, 0]])
            self._alu(
                unit,
                step.op,
                None,
                Nest(uops, _ONCE, Loop(to.plane * tile.count, 1, 1)),
                tile.span(step.plane),
            )
            return
        taps = [(ky, kx) for ky in range(plane.y.kernel) for kx in range(plane.x.kernel)]
        rows = np.array([(b, ky, kx) for ky, kx in taps for b in range(tile.count)], np.int64)
        relative = np.stack([rows[:, 0] * to.plane, rows[:, 0] * source.plane, 0 * rows[:, 0]], axis=1)
        found = windowed(
            (plane.y, plane.x),
            (to.rows, to.columns),
            (source.rows[0], source.columns[0]),
            (to.width, source.width, 1),
            rows[:, 1:3],
            relative,
            rows[:, 0],
        )
        for nest in found:
            moved = Nest(nest.uops + np.array([to.base, source.base, 0]), nest.outer, nest.inner)
            self._alu(unit, step.op, None, moved, tile.span(step.plane))

    def _ask(self, unit: Unit, nest: Nest) -> Hashable:
        """Have the micro-ops of `nest` on the chip; their name."""
        name = nest.uops.tobytes()
        unit.uops[name] = self._words(name, nest.uops, (0, 0, 0))
        return name

    def _words(self, name: Hashable, uops: Index, base: tuple[int, int, int]) -> Words:
        """The micro-ops `uops` of that name, moved by `base`."""
        if name not in self._encoded:
            dst, src, wgt = (uops[:, k] + base[k] for k in range(3))
            self._encoded[name] = encode_uops(dst, src, wgt, self.to.config)
        return self._encoded[name]

    def _alu(self, unit: Unit, op: AluOp, value: int | None, nest: Nest, acc: Range) -> None:
        unit.actions.append(partial(self._run_alu, self._ask(unit, nest), op, value, nest, acc))

    def _run_alu(self, name: Hashable, op: AluOp, value: int | None, nest: Nest, acc: Range) -> None:
        at = self.to.uops.place(name)
        outer, inner = nest.outer, nest.inner
        alu = Alu(
            op, value is not None, value or 0, at, at + len(nest.uops), outer.count, inner.count,
            outer.dst, inner.dst, outer.src, inner.src,
        )  # fmt: skip
        self.to.stream.compute(alu, [acc])

    def _gemm(
        self,
        name: Hashable,
        nest: Nest,
        acc: Range,
        reads: Sequence[tuple[Memory, Range]],
        reset: bool = False,
    ) -> None:
        at = self.to.uops.place(name)
        outer, inner = nest.outer, nest.inner
        gemm = Gemm(
            reset, at, at + len(nest.uops), outer.count, inner.count,
            outer.dst, inner.dst, outer.src, inner.src, 0, 0,
        )  # fmt: skip
        self.to.stream.compute(gemm, [acc], reads)

    def _stores(self, tile: Tile, write: Write) -> Iterator[Store]:
        blocks = np.array(write.blocks or range(self.stage.extent.blocks))[slice(*tile.blocks)]
        apart = np.flatnonzero(np.diff(blocks) > 1) + 1
        for low, high in pairwise([0, *apart.tolist(), len(blocks)]):
            yield from self._neighbours(tile, write, low, int(blocks[low]), high - low)

    def _neighbours(self, tile: Tile, write: Write, low: int, block: int, count: int) -> Iterator[Store]:
        """STOREs of `count` blocks of a tile, from its block `low` on, to blocks from `block` on."""
        box, extent = tile.boxes[0], write.extent
        sram = box.base + low * box.plane
        base = self.to.addresses[write.target]
        base += (tile.image * extent.blocks + write.first_block + block) * extent.plane
        base += box.rows[0] * extent.columns + box.columns[0]
        height = box.rows[1] - box.rows[0]
        whole = box.width == extent.columns or height == 1
        if whole and (extent.plane <= _WIDEST or count == 1):
            yield Store(sram, base, count, box.plane, min(extent.plane, _WIDEST))
            return
        for number in range(count):
            at, dram = sram + number * box.plane, base + number * extent.plane
            yield Store(at, dram, height, box.width, extent.columns)


_ONCE = Loop(1, 0, 0)


def _slots(buffers: Sequence[Buffers], first: Sequence[int]) -> list[Slots]:
    """The slots of each term, one term after the other; those of an earlier one where that is its `first`."""
    found: list[Slots] = []
    base = 0
    for number, b in enumerate(buffers):
        if first[number] < number:
            found.append(found[first[number]])
        else:
            found.append(Slots(base, b.size, b.count))
            base += b.room
    return found
