"""Factors of operators that treat the elements along an axis alike: elementwise, normalization, sums."""

from __future__ import annotations

from collections.abc import Iterator

from optc.passes.partition.sharding.factor import Factor, factor
from optc.passes.partition.sharding.op import Op

_SUMS = {"ReduceSum", "ReduceL1", "ReduceSumSquare"}
"""Reductions whose result is the sum of the results of pieces."""


def elementwise(op: Op) -> Iterator[Factor]:
    """Any axis of the output; inputs broadcast to it."""
    out = op.outs[0]
    if out is None:
        return
    yield from _along(op, range(len(out)))


def _along(op: Op, axes: range, places: tuple[int, ...] | None = None) -> Iterator[Factor]:
    """Axes of output 0 that run through the inputs `places` (all that are given), aligned at the right."""
    out = op.outs[0]
    assert out is not None
    places = tuple(sorted(op.given)) if places is None else places
    ranks = {place: op.rank(place) for place in places}
    for axis in axes:
        ins = {}
        for place, rank in ranks.items():
            own = axis - len(out) + rank if rank is not None else 0
            size = op.dim(place, own) if own >= 0 else 1
            if size is None or isinstance(size, str):
                break
            if size != 1:
                ins[place] = own
        else:
            yield from factor(op, ins, {0: axis})


def expand(op: Op) -> Iterator[Factor]:
    """Broadcasting to a constant shape."""
    out = op.outs[0]
    if out is not None and all(isinstance(d, int) for d in out) and op.rank(0) is not None:
        yield from _along(op, range(len(out)), (0,))


def dropout(op: Op) -> Iterator[Factor]:
    """In inference it is the identity; its mask and its training mode are not."""
    if len(op.outs) == 1 and 2 not in op.given:
        yield from _along(op, range(len(op.outs[0] or ())), (0,))


def softmax(op: Op) -> Iterator[Factor]:
    """All axes but the one that sums to 1; before opset 13 it was all axes from that on."""
    rank = op.rank(0)
    if not rank:
        return
    old = op.opset < 13
    axis = int(op.attrs.get("axis", 1 if old else -1)) % rank
    for other in range(rank):
        if other < axis or (other > axis and not old):
            yield from factor(op, {0: other}, {0: other})


def layer_normalization(op: Op) -> Iterator[Factor]:
    """The axes before those that are normalized."""
    rank = op.rank(0)
    if rank:
        for axis in range(int(op.attrs.get("axis", -1)) % rank):
            yield from factor(op, {0: axis}, dict.fromkeys(range(len(op.outs)), axis))


def batch_normalization(op: Op) -> Iterator[Factor]:
    """Every axis in inference form; channels with their four parameters."""
    rank = op.rank(0)
    plain = not op.attrs.get("training_mode", 0) and op.attrs.get("spatial", 1)
    if rank and rank > 1 and len(op.outs) == 1 and plain:
        for axis in range(rank):
            ins = {0: 1, 1: 0, 2: 0, 3: 0, 4: 0} if axis == 1 else {0: axis}
            yield from factor(op, ins, {0: axis})


def instance_normalization(op: Op) -> Iterator[Factor]:
    """Batch, and channels with their two parameters."""
    yield from factor(op, {0: 0}, {0: 0})
    yield from factor(op, {0: 1, 1: 0, 2: 0}, {0: 1})


def lrn(op: Op) -> Iterator[Factor]:
    """All axes but the channels."""
    for axis in range(op.rank(0) or 0):
        if axis != 1:
            yield from factor(op, {0: axis}, {0: axis})


def quantize(op: Op) -> Iterator[Factor]:
    """QuantizeLinear and DequantizeLinear: every axis; scales and zero points go with theirs."""
    rank, scales = op.rank(0), op.rank(1)
    if rank is None or scales not in (0, 1) or op.attrs.get("block_size", 0):
        return
    own = int(op.attrs.get("axis", 1)) % max(rank, 1)
    one = scales == 0 or op.dim(1, 0) == 1
    for axis in range(rank):
        parameters = {} if one or axis != own else dict.fromkeys(sorted(op.given - {0}), 0)
        yield from factor(op, {0: axis} | parameters, {0: axis})


def reduce(op: Op) -> Iterator[Factor]:
    """The axes that stay, and for plain sums the others as terms."""
    rank, axes = op.rank(0), op.ints("axes", 1)
    if rank is None or (axes is None and 1 in op.given):
        return
    if not axes and op.attrs.get("noop_with_empty_axes", 0):
        yield from elementwise(op)
        return
    gone = {a % rank for a in axes} if axes else set(range(rank))
    yield from _reduced(op, rank, gone)
    if op.kind in _SUMS:
        for axis in sorted(gone):
            yield from factor(op, {0: axis}, {}, reduce=True)


def arg(op: Op) -> Iterator[Factor]:
    """ArgMax and ArgMin: the axes that stay."""
    rank = op.rank(0)
    if rank:
        yield from _reduced(op, rank, {int(op.attrs.get("axis", 0)) % rank})


def _reduced(op: Op, rank: int, gone: set[int]) -> Iterator[Factor]:
    kept = bool(op.attrs.get("keepdims", 1))
    for axis in range(rank):
        if axis not in gone:
            place = axis if kept else axis - sum(a < axis for a in gone)
            yield from factor(op, {0: axis}, {0: place})
