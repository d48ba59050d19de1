"""Factors of operators that move elements: views, transposition, pieces of axes, lookups, resizing."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator

from optc.passes.analysis.shapes import Dim, Shape, reshape_target
from optc.passes.partition.sharding.factor import Factor, factor
from optc.passes.partition.sharding.op import Op


def view(op: Op) -> Iterator[Factor]:
    """Reshape and its kin: the leading axis of each group of axes that becomes another group.

    768 features that become 12 heads of 64 can be cut between heads only.
    """
    if op.ins[0] is None or op.outs[0] is None or (op.kind == "Squeeze" and op.ints("axes", 1) is None):
        return
    if op.kind == "Reshape" and (op.attrs.get("allowzero", 0) or 1 not in op.given):
        return
    if op.kind == "Reshape" and reshape_target(op.ins[0], op.outs[0]) is None:
        return
    for a, b in view_axes(op.ins[0], op.outs[0]):
        yield from factor(op, {0: a}, {0: b})


def view_axes(source: Shape, target: Shape) -> list[tuple[int, int]]:
    """Leading axes of matching groups of axes, those of size 1 left out; the outermost group comes first."""
    ends = _matches(source, target)
    tails = _matches(source[::-1], target[::-1])
    ends += [(len(source) - i, len(target) - j) for i, j in tails]
    starts = [_skip_ones(source, i, target, j) for i, j in ends]
    return sorted({(i, j) for i, j in starts if i < len(source) and j < len(target)})


def _skip_ones(source: Shape, i: int, target: Shape, j: int) -> tuple[int, int]:
    while i < len(source) and source[i] == 1:
        i += 1
    while j < len(target) and target[j] == 1:
        j += 1
    return i, j


def _matches(source: Shape, target: Shape) -> list[tuple[int, int]]:
    """How many axes from the left, (0, 0) first, hold as many elements on either side."""
    found = [(0, 0)]
    i = j = 0
    a, b = _Count(), _Count()
    while i < len(source) or j < len(target):
        if i < len(source) and (j == len(target) or a.number <= b.number):
            known = a.take(source[i])
            i += 1
        else:
            known = b.take(target[j])
            j += 1
        if not known:
            break
        if a == b:
            found.append((i, j))
    return found


class _Count:
    """A product of numbers and symbols."""

    def __init__(self) -> None:
        self.number = 1
        self.symbols: Counter[str] = Counter()

    def take(self, dim: Dim) -> bool:
        """Multiply; False where the dimension is not known."""
        if isinstance(dim, int):
            self.number *= dim
        elif dim is not None:
            self.symbols[dim] += 1
        return dim is not None

    def __eq__(self, other: object) -> bool:
        return isinstance(other, _Count) and self.number == other.number and self.symbols == other.symbols


def transpose(op: Op) -> Iterator[Factor]:
    """Axis j of the output is axis perm[j] of the input."""
    rank = op.rank(0)
    if rank is not None:
        for j, axis in enumerate(op.ints("perm") or range(rank - 1, -1, -1)):
            yield from factor(op, {0: axis}, {0: j})


def concat(op: Op) -> Iterator[Factor]:
    """All axes but the one along which inputs are put together."""
    yield from _all_but(op, [int(op.attrs.get("axis", 1))])


def split(op: Op) -> Iterator[Factor]:
    """All axes but the one that is split."""
    yield from _all_but(op, [int(op.attrs.get("axis", 0))])


def slice_(op: Op) -> Iterator[Factor]:
    """All axes of which no piece is taken."""
    starts = op.ints("starts", 1)
    axes = op.ints("axes", 3)
    if starts is not None and axes is None and 3 not in op.given:
        axes = list(range(len(starts)))
    if axes is not None:
        yield from _all_but(op, axes)


def pad(op: Op) -> Iterator[Factor]:
    """All axes that get no padding."""
    pads, rank = op.ints("pads", 1), op.rank(0)
    axes = op.ints("axes", 3)
    if pads is None or rank is None or (3 in op.given and axes is None):
        return
    half = len(pads) // 2
    axes = axes or list(range(rank))
    yield from _all_but(op, [a for a, p, q in zip(axes, pads[:half], pads[half:], strict=True) if p or q])


def tile(op: Op) -> Iterator[Factor]:
    """All axes that are not repeated."""
    repeats = op.ints("repeats", 1)
    if repeats is not None:
        yield from _all_but(op, [axis for axis, times in enumerate(repeats) if times != 1])


def resize(op: Op) -> Iterator[Factor]:
    """Resize and Upsample: batch and channels, where their sizes stay."""
    scales = op.values.get(1 if op.kind == "Upsample" else 2)
    cropped = op.attrs.get("coordinate_transformation_mode") == "tf_crop_and_resize"
    if (scales is None and 3 not in op.values) or op.attrs.get("axes") or cropped:
        return
    for axis in (0, 1):
        kept = op.outs[0] is not None and op.outs[0][axis : axis + 1] == (op.dim(0, axis),)
        if kept and (scales is None or not scales.size or scales[axis] == 1):
            yield from factor(op, {0: axis}, {0: axis})


def gather(op: Op) -> Iterator[Factor]:
    """The other axes of the data (an embedding by its columns), and all axes of the indices."""
    rank, picks = op.rank(0), op.rank(1)
    if rank is None or picks is None:
        return
    taken = int(op.attrs.get("axis", 0)) % rank
    for axis in range(rank):
        if axis != taken:
            yield from factor(op, {0: axis}, {0: axis if axis < taken else axis + picks - 1})
    for axis in range(picks):
        yield from factor(op, {1: axis}, {0: taken + axis})


def _all_but(op: Op, axes: list[int]) -> Iterator[Factor]:
    """Axes that run through all inputs of input 0's rank and through all outputs."""
    rank = op.rank(0)
    if not rank:
        return
    # Inputs after the first are data in Concat only.
    data = range(len(op.ins)) if op.kind == "Concat" else range(1)
    for axis in sorted(set(range(rank)) - {a % rank for a in axes}):
        yield from factor(op, dict.fromkeys(data, axis), dict.fromkeys(range(len(op.outs)), axis))
