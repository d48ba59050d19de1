"""Rounding weights to integers so that a layer's results, not the weights, come out right."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

Array = NDArray[Any]

DAMP = 1e-2
"""Added to the diagonal, as a share of its mean, so that what hardly varies does not run away."""


def round_with_feedback(
    weights: Array, covariance: Array, scale: Array, low: Array | int, high: Array | int
) -> Array:
    """Integers q, low <= q <= high, such that `rows @ (q * scale)` is near `rows @ weights`.

    `weights`: [g, k, m]; `covariance`: of the rows, [g, k, k]; `scale`, `low`, `high`: broadcast to the
    weights. One weight of each column
    after another is rounded, and those still to come make up for its error: GPTQ (Frantar et al. 2022, arXiv
    2210.17323), by the Cholesky factor of the inverse; those that matter most are rounded first.
    """
    groups, size, _ = weights.shape
    diagonal = np.diagonal(covariance, axis1=1, axis2=2)
    order = np.argsort(-diagonal, axis=1, kind="stable")
    at = np.arange(groups)[:, None]
    damp = DAMP * diagonal.mean(axis=1, keepdims=True) + 1e-12
    system = covariance[at[:, :, None], order[:, :, None], order[:, None, :]]
    system = system + np.eye(size) * damp[:, :, None]
    factor = np.linalg.cholesky(np.linalg.inv(system)).transpose(0, 2, 1)  # upper: U' U = inverse
    left = weights[at, order].astype(np.float64)
    scale, low, high = (np.broadcast_to(v, weights.shape)[at, order] for v in (scale, low, high))
    found = np.zeros(left.shape)
    for i in range(size):
        now = left[:, i]
        found[:, i] = np.clip(np.rint(now / scale[:, i]), low[:, i], high[:, i])
        error = ((now - found[:, i] * scale[:, i]) / factor[:, i, i, None])[:, None]
        left[:, i + 1 :] -= factor[:, i, i + 1 :, None] * error
    result = np.empty_like(found)
    result[at, order] = found
    return result
