"""Where a sharding needs collectives, and how long they take over equal links.

A device sends and receives one message at a time, each for latency + bytes / bandwidth: the model of Thakur,
Rabenseifner and Gropp, "Optimization of Collective Communication Operations in MPICH", 2005. Gathering,
scattering and exchanging send each piece straight to whom it is for (their pairwise exchange; the ring
takes as long). An all-reduce sends all terms straight to all devices, as the engines do; a reduce-scatter and
then an all-gather (their section 4.5, and the ring of Patarasuk and Yuan, 2009) is a layout of its own: the
sum lies in shares, and the reader gathers it.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Sequence

from optc.passes.partition.cluster import Link
from optc.passes.partition.sharding.layout import Range, Spec, Split


def received(have: Spec, wanted: Iterable[Spec]) -> set[Spec]:
    """Into which layouts a value that lies as `have` goes by collectives, each once, for these readers.

    None where it is whole or a reader can cut its part out of what its device holds. Where a reader needs the
    value whole, the others cut their parts out of that.
    """
    found = {spec for spec in wanted if not holds(have, spec)}
    return {None} if None in found else found


def holds(have: Spec, want: Spec) -> bool:
    """Whether every device already has what it is to read."""
    if have is None or want is None or have == want:
        return have is None or have == want
    pairs = zip(have.ranges, want.ranges, strict=True)
    return have.axis == want.axis and all(a <= c and d <= b for (a, b), (c, d) in pairs)


def move_seconds(have: Split, want: Spec, shape: Sequence[object], size: float, link: Link) -> float:
    """What it takes to give each device its part in the layout `want` of a value of `size` bytes."""
    count = len(have.ranges)
    full = _size(shape, have.axis)
    if want is None:
        parts = [[size * _length(piece) / full] * count for piece in have.ranges]
    elif want.axis == have.axis:
        parts = [[size * _overlap(a, b) / full for b in want.ranges] for a in have.ranges]
    else:
        other = _size(shape, want.axis)
        parts = [[size * _length(a) / full * _length(b) / other for b in want.ranges] for a in have.ranges]
    return _exchange(parts, link)


def reduce_seconds(to: Spec, shape: Sequence[object], size: float, link: Link, count: int) -> float:
    """What it takes to sum terms of `size` bytes on `count` devices; the sum lies as `to`."""
    if to is not None:
        full = _size(shape, to.axis)
        return _exchange([[size * _length(piece) / full for piece in to.ranges]] * count, link)
    return (count - 1) * link.seconds(size)


def _exchange(parts: Collection[Sequence[float]], link: Link) -> float:
    """Device a sends parts[a][b] bytes to device b: as long as the busiest sender or receiver takes."""
    rows = [[link.seconds(s) if a != b else 0.0 for b, s in enumerate(row)] for a, row in enumerate(parts)]
    return max(max(map(sum, rows)), max(map(sum, zip(*rows, strict=True))))


def _length(piece: Range) -> int:
    return piece[1] - piece[0]


def _overlap(a: Range, b: Range) -> int:
    return max(0, min(a[1], b[1]) - max(a[0], b[0]))


def _size(shape: Sequence[object], axis: int) -> int:
    size = shape[axis]
    assert isinstance(size, int), "only axes of known size are split"
    return size
