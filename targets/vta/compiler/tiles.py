"""Tiles of a stage in ACC, and the order of their steps."""

from __future__ import annotations

from collections import deque
from collections.abc import Collection, Iterable, Iterator, Sequence
from dataclasses import dataclass

from optc.targets.vta.compiler.cuts import Range, ranges
from optc.targets.vta.compiler.stages import (
    Accumulate,
    Step,
    Write,
)


@dataclass(frozen=True)
class Box:
    """A plane of a tile: the rows and columns it spans, and its first ACC element."""

    rows: Range
    columns: Range
    base: int

    @property
    def width(self) -> int:
        """Columns."""
        return self.columns[1] - self.columns[0]

    @property
    def plane(self) -> int:
        """Elements of a block."""
        return (self.rows[1] - self.rows[0]) * self.width


@dataclass(frozen=True)
class Tile:
    """An output tile: its place, and its planes in ACC."""

    image: int
    blocks: Range
    boxes: tuple[Box, ...]

    @property
    def count(self) -> int:
        """Blocks."""
        return self.blocks[1] - self.blocks[0]

    def span(self, plane: int) -> Range:
        """The ACC elements of a plane."""
        box = self.boxes[plane]
        return box.base, box.base + box.plane * self.count


_PIECES = 4
"""Pieces of a stage's last tile, each stored while the next one is worked on."""


def _pieces(tile: Tile) -> list[Tile]:
    """A tile in some ranges of its blocks."""
    found: list[Tile] = []
    for low, high in ranges(tile.count, -(-tile.count // _PIECES)):
        boxes = tuple(Box(b.rows, b.columns, b.base + low * b.plane) for b in tile.boxes)
        found.append(Tile(tile.image, (tile.blocks[0] + low, tile.blocks[0] + high), boxes))
    return found


def _up_to_writes(steps: Sequence[Step]) -> list[Sequence[Step]]:
    """The steps up to each Write."""
    ends = [i + 1 for i, s in enumerate(steps) if isinstance(s, Write)]
    return [steps[a:b] for a, b in zip([0, *ends], ends, strict=False)]


_Waiting = tuple[Tile, deque[Sequence[Step]]]
"""A tile, and what is left to do of it, up to each Write."""


def _advance(waiting: Iterable[_Waiting]) -> Iterator[tuple[Tile, Step]]:
    """The next steps up to a Write of each tile."""
    for tile, left in waiting:
        if left:
            yield from ((tile, s) for s in left.popleft())


def _all(waiting: Collection[_Waiting]) -> Iterator[tuple[Tile, Step]]:
    """What is left of each tile."""
    while any(left for _, left in waiting):
        yield from _advance(waiting)


def in_order(steps: Sequence[Step], tiles: Iterable[Tile], slots: int) -> Iterator[tuple[Tile, Step]]:
    """All steps of tiles that take `slots` of ACC in turn.

    What follows a Write comes after the next tile's first sums: until then it is stored.
    """
    sums = [i + 1 for i, s in enumerate(steps) if isinstance(s, Accumulate)]
    head, *tail = _up_to_writes(steps)
    waiting: deque[_Waiting] = deque()
    *others, last = tiles
    for tile in others:
        if len(waiting) == slots:
            yield from _all([waiting.popleft()])
        yield from ((tile, s) for s in head[: sums[0]])
        yield from _advance(waiting)
        yield from ((tile, s) for s in head[sums[0] :])
        waiting.append((tile, deque(tail)))
    if len(waiting) == slots:
        yield from _all([waiting.popleft()])
    yield from ((last, s) for s in head[: sums[0]])
    yield from _all(waiting)
    yield from ((last, s) for s in steps[sums[0] : sums[-1]])
    for some in _up_to_writes(steps[sums[-1] :]):
        yield from ((piece, s) for piece in _pieces(last) for s in some)
