"""Factors of matrix products: column splits, row splits whose terms are summed, stacks of matrices."""

from __future__ import annotations

from collections.abc import Iterator

from optc.passes.partition.sharding.factor import Factor, factor
from optc.passes.partition.sharding.op import Op


def matmul(op: Op) -> Iterator[Factor]:
    """[..., m, k] @ [..., k, n]; one of the two may be a vector."""
    a, b = op.rank(0), op.rank(1)
    if a is None or b is None or op.outs[0] is None:
        return
    stack = max(a, b, 2) - 2
    rank = len(op.outs[0])
    for axis in range(stack):
        yield from _stack(op, axis, axis - stack + a - 2, axis - stack + b - 2)
    if a > 1:
        yield from factor(op, {0: a - 2}, {0: stack})
    if b > 1:
        yield from factor(op, {1: b - 1}, {0: rank - 1})
    yield from factor(op, {0: a - 1, 1: max(b - 2, 0)}, {}, reduce=True)


def _stack(op: Op, out: int, a: int, b: int) -> Iterator[Factor]:
    """An axis of the stacks; a size of 1 is repeated."""
    places = {place: axis for place, axis in ((0, a), (1, b)) if axis >= 0}
    if all(isinstance(op.dim(place, axis), int) for place, axis in places.items()):
        yield from factor(op, {p: axis for p, axis in places.items() if op.dim(p, axis) != 1}, {0: out})


def gemm(op: Op) -> Iterator[Factor]:
    """A [m, k] @ B [k, n] + C, each of A and B may be transposed; C broadcasts."""
    a, b = int(op.attrs.get("transA", 0)), int(op.attrs.get("transB", 0))
    if op.rank(0) != 2 or op.rank(1) != 2:
        return
    for axis, places in enumerate(({0: a}, {1: 1 - b})):
        if 2 not in op.given:
            yield from factor(op, places, {0: axis})
            continue
        rank = op.rank(2)
        if rank is None:
            continue
        own = axis - 2 + rank
        size = op.dim(2, own) if own >= 0 else 1
        if isinstance(size, int):
            yield from factor(op, places | ({} if size == 1 else {2: own}), {0: axis})
    if bias_once(op):
        yield from factor(op, {0: 1 - a, 1: b}, {}, reduce=True)


def bias_once(op: Op) -> bool:
    """Whether the bias at input 2 can be left to one device: it is constant, or there is none."""
    return 2 not in op.given or 2 in op.constants
