"""Choosing exactly which weights become zero."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

Array = NDArray[Any]
Mask = NDArray[np.bool_]


def lowest_mask(scores: Array, sparsity: float) -> Mask:
    """Where the lowest `sparsity` share of `scores` (any shape) lies: a mask of the same shape.

    Exactly `round(sparsity * size)` entries are set. Equal scores go by index, the lowest first; NaN last.
    """
    flat = np.where(np.isnan(scores), np.inf, scores).reshape(-1)
    count = round(sparsity * flat.size)
    mask = np.zeros(flat.size, np.bool_)
    if count:
        threshold = np.partition(flat, count - 1)[count - 1]
        mask = flat < threshold
        ties = np.flatnonzero(flat == threshold)
        mask[ties[: count - np.count_nonzero(mask)]] = True
    return mask.reshape(scores.shape)


def lowest_masks(scores: Sequence[Array], sparsity: float) -> list[Mask]:
    """As `lowest_mask`, with one threshold over all arrays together; the sum of the counts is exact."""
    together = lowest_mask(np.concatenate([s.reshape(-1) for s in scores]), sparsity)
    ends = np.cumsum([s.size for s in scores])[:-1]
    return [m.reshape(s.shape) for m, s in zip(np.split(together, ends), scores, strict=True)]
