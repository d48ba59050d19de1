"""The bursts that a LOAD or STORE reads or writes, in words."""

from __future__ import annotations

from functools import lru_cache

from optc.targets.vta.config import Config, Memory
from optc.targets.vta.isa import Load, Store
from optc.targets.vta.timing.figures import WORD_BYTES

Run = tuple[int, int]
"""So many bursts of so many words."""


def runs(move: Load | Store, config: Config, limit: int) -> tuple[Run, ...]:
    """The bursts of all rows, one after another, of at most `limit` bytes, cut at multiples of it."""
    size = config.element_bytes(move.memory)
    first, step = move.dram * size % limit, move.x_stride * size % limit
    return _runs(first, step, move.y_size, move.x_size * size, limit)


@lru_cache(maxsize=4096)
def _runs(first: int, step: int, rows: int, size: int, limit: int) -> tuple[Run, ...]:
    """The bursts of `rows` of `size` bytes, `first` + y * `step` behind a multiple of `limit`."""
    found: list[Run] = []
    for y in range(rows):
        for count, words in row_bursts((first + y * step) % limit, size, limit):
            if found and found[-1][1] == words:
                found[-1] = (found[-1][0] + count, words)
            else:
                found.append((count, words))
    return tuple(found)


def row_bursts(offset: int, size: int, limit: int) -> list[Run]:
    """The bursts of `size` bytes from `offset` behind a multiple of `limit`, cut at multiples of it."""
    skew = offset % WORD_BYTES
    first = min(size, limit - offset)
    full, last = divmod(size - first, limit)
    runs = [(1, -(-(skew + first) // WORD_BYTES)), (full, limit // WORD_BYTES), (1, -(-last // WORD_BYTES))]
    return [(count, words) for count, words in runs if count and words]


Burst = tuple[int, int]
"""Cycles that the words of a burst take, and elements of zeros that are written before them."""


def framed(load: Load, config: Config, limit: int) -> tuple[tuple[Burst, ...], int]:
    """The bursts of a LOAD, each with the padding in front of it; and the padding behind the last."""
    if not load.x_size or not load.y_size:
        return (), 0
    width = load.x_pad_0 + load.x_size + load.x_pad_1
    size = config.element_bytes(load.memory)
    if load.memory != Memory.UOP and size < WORD_BYTES:  # an element a cycle, though two share a word
        limit, size = limit * WORD_BYTES // size, WORD_BYTES
    first, step = load.dram * size % limit, load.x_stride * size % limit
    before, between = load.y_pad_0 * width + load.x_pad_0, load.x_pad_0 + load.x_pad_1
    bursts = _framed((first, step, limit), load.y_size, load.x_size, size, (before, between))
    return bursts, load.x_pad_1 + load.y_pad_1 * width


@lru_cache(maxsize=4096)
def _framed(
    place: tuple[int, int, int], rows: int, elements: int, size: int, zeros: tuple[int, int]
) -> tuple[Burst, ...]:
    first, step, limit = place
    found: list[Burst] = []
    for y in range(rows):
        pad = zeros[min(y, 1)]
        for count, words in row_bursts((first + y * step) % limit, elements * size, limit):
            found += [(words, pad), *[(words, 0)] * (count - 1)]
            pad = 0
    return tuple(found)
