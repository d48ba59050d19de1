"""Second moments of a layer's rows and wanted results, and the weights that they lead to."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from optc.models.errors import InputError
from optc.passes.layerwise.linear import Linear

Array = NDArray[Any]

ROWS = 16
"""How many rows are used for each weight of a result; more only take time."""

_FEWEST = 8192
_STEPS = 60


@dataclass
class Moments:
    """Means over the rows r (with a 1 behind each, for the bias) and the wanted results y.

    `gram`: E[r r'], [g, k + 1, k + 1]; `cross`: E[r y'], [g, k + 1, m]; float64.
    """

    gram: Array
    cross: Array


def moments(linear: Linear, inputs: Sequence[Array], wanted: Sequence[Array], seed: int = 0) -> Moments:
    """The moments over samples of a layer's input and of what it should make of it.

    Raises `InputError` where they are not finite.
    """
    rng = np.random.default_rng(seed)
    gram = cross = np.zeros(())
    count = 0
    for rows, results in _chosen(linear, inputs, wanted, rng):
        ones = np.ones((*rows.shape[:2], 1), np.float32)
        rows = np.concatenate([rows, ones], axis=2)
        turned = rows.transpose(0, 2, 1)
        with np.errstate(over="ignore", invalid="ignore"):
            gram = gram + (turned @ rows).astype(np.float64)
            cross = cross + (turned @ results).astype(np.float64)
        count += rows.shape[1]
    if not (np.isfinite(gram).all() and np.isfinite(cross).all()):
        name = linear.node.name or linear.node.outputs[0].name
        raise InputError(
            f"what '{name}' reads or makes on the calibration samples is too large to fit weights to (its "
            "products pass float32's range); give real data, or leave the fitting out"
        )
    return Moments(gram / count, cross / count)


def means(linear: Linear, inputs: Sequence[Array], wanted: Sequence[Array]) -> tuple[Array, Array]:
    """The means over samples of the rows, [g, 1, k], and of what should be made of them, [g, 1, m]."""
    rows = results = np.zeros(())
    count = 0
    for x, y in zip(inputs, wanted, strict=True):
        part = linear.rows(x)
        count += part.shape[1]
        rows = rows + part.sum(axis=1, keepdims=True, dtype=np.float64)
        results = results + linear.results(y).sum(axis=1, keepdims=True, dtype=np.float64)
    return rows / count, results / count


def _chosen(
    linear: Linear, inputs: Sequence[Array], wanted: Sequence[Array], rng: np.random.Generator
) -> Iterator[tuple[Array, Array]]:
    """Rows and results sample by sample, as many of each as are enough in all, drawn at random."""
    for x, y in zip(inputs, wanted, strict=True):
        rows, results = linear.rows(x), linear.results(y)
        enough = -(-max(ROWS * rows.shape[2], _FEWEST) // len(inputs))
        if rows.shape[1] > enough:
            drawn = np.sort(rng.choice(rows.shape[1], enough, replace=False))
            rows, results = rows[:, drawn], results[:, drawn]
        yield rows, results


def least_squares(found: Moments, start: Array, mask: Array | None, ridge: float) -> Array:
    """The weights [g, k + 1, m] (bias last) of least mean squared error, near `start`.

    Minimizes `E|r w - y|**2 + ridge * mean(E[r**2]) * |w - start|**2`; where `mask` [g, k, m] is False a
    weight stays 0. Without a mask by a direct solution, with one by conjugate gradients (Hestenes & Stiefel
    1952).
    """
    size = found.gram.shape[1] - 1
    damp = ridge * np.trace(found.gram[:, :size, :size], axis1=1, axis2=2)[:, None] / max(size, 1)
    weights = np.concatenate(
        [np.repeat(np.maximum(damp, 1e-12), size, axis=1), np.full((len(damp), 1), 1e-9)], axis=1
    )
    system = found.gram + np.eye(size + 1) * weights[:, :, None]
    target = found.cross + weights[:, :, None] * start
    if mask is None or mask.all():
        return np.asarray(np.linalg.solve(system, target))
    free = np.concatenate([mask, np.ones((mask.shape[0], 1, mask.shape[2]), np.bool_)], axis=1)
    return _conjugate_gradients(system, target, start * free, free)


def _conjugate_gradients(system: Array, target: Array, start: Array, free: Array) -> Array:
    """Solve `system w = target` for each column over the entries that are `free`, from `start`."""
    inverse = 1 / np.diagonal(system, axis1=1, axis2=2)[:, :, None]
    w = start
    residual = (target - system @ w) * free
    direction = z = inverse * residual
    energy = np.sum(residual * z, axis=1, keepdims=True)
    least = energy * 1e-8
    for _ in range(_STEPS):
        image = system @ direction
        step = energy / np.maximum(np.sum(direction * image, axis=1, keepdims=True), 1e-300)
        w = w + step * direction
        residual = residual - step * image * free
        z = inverse * residual
        following = np.sum(residual * z, axis=1, keepdims=True)
        if np.all(following <= least):
            break
        direction = z + following / np.maximum(energy, 1e-300) * direction
        energy = following
    return w
