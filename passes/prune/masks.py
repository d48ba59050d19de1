"""Choosing exactly which weights become zero."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

Array = NDArray[Any]
Mask = NDArray[np.bool_]


def lowest_mask(scores: Array, sparsity: float) -> Mask:
    """Where the lowest `sparsity` share of `scores` (any shape) lies: a mask of the same shape.

    Exactly `round(sparsity * size)` entries are set, as by `lowest`.
    """
    return lowest(scores, round(sparsity * scores.size))


def lowest(scores: Array, count: int) -> Mask:
    """Where the `count` lowest of `scores` lie. Equal scores go by index, the lowest first; NaN last."""
    flat = np.where(np.isnan(scores), np.inf, scores).reshape(-1)
    mask = np.zeros(flat.size, np.bool_)
    if count:
        threshold = np.partition(flat, count - 1)[count - 1]
        mask = flat < threshold
        ties = np.flatnonzero(flat == threshold)
        mask[ties[: count - np.count_nonzero(mask)]] = True
    return mask.reshape(scores.shape)


def lowest_of_groups(scores: Array, kept: int, group: int) -> Mask:
    """Where the lowest `group - kept` of each `group` neighbours along the last axis lie.

    A rest at the end shorter than `group` loses none. Equal scores go by index, the lowest first; NaN last.
    """
    length = scores.shape[-1] // group * group
    mask = np.zeros(scores.shape, np.bool_)
    groups = scores[..., :length].reshape(*scores.shape[:-1], -1, group)
    order = np.argsort(np.where(np.isnan(groups), np.inf, groups), axis=-1, kind="stable")
    chosen = np.zeros(groups.shape, np.bool_)
    np.put_along_axis(chosen, order[..., : group - kept], True, axis=-1)
    mask[..., :length] = chosen.reshape(*scores.shape[:-1], length)
    return mask


def block_sums(scores: Array, rows: int, columns: int) -> Array:
    """The sums of `rows` x `columns` blocks of the last two axes: [..., ceil(m / rows), ceil(c / columns)].

    Blocks at the ends may be smaller; their sums are scaled up to whole blocks.
    """
    m, c = scores.shape[-2:]
    sums = block_totals(scores, rows, columns)
    filled = np.minimum(rows, m - rows * np.arange(sums.shape[-2]))[:, None]
    filled = filled * np.minimum(columns, c - columns * np.arange(sums.shape[-1]))[None, :]
    return np.asarray(sums * (rows * columns) / filled)


def block_totals(values: Array, rows: int, columns: int) -> Array:
    """As `block_sums`, but sums of smaller blocks stay as they are."""
    *stack, m, c = values.shape
    high, wide = -(-m // rows), -(-c // columns)
    padded = np.zeros((*stack, high * rows, wide * columns))
    padded[..., :m, :c] = values
    return np.asarray(padded.reshape(*stack, high, rows, wide, columns).sum(axis=(-3, -1)))


def spread_blocks(blocks: Mask, rows: int, columns: int, shape: tuple[int, ...]) -> Mask:
    """A mask of blocks as one of single entries, of `shape`."""
    spread = blocks.repeat(rows, axis=-2).repeat(columns, axis=-1)
    return np.asarray(spread[..., : shape[-2], : shape[-1]])
