"""Metrics on labelled data, with 95% intervals."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from optc.models.errors import InputError
from optc.passes.base import Score

Values = NDArray[np.float64]

_Z = 1.959964
"""Two-sided 95% quantile of the normal distribution."""

_DRAWS = 200
"""Bootstrap draws; each is of as many samples as there are, the same ones for every model."""


def decisions(output: NDArray[Any], labels: NDArray[Any]) -> NDArray[np.int64]:
    """The class that `output` chooses for every label, shape of `labels`.

    `output` holds class numbers of the labels' shape, or a score for each class along axis 1 or the last.
    """
    if np.issubdtype(output.dtype, np.integer) and output.size == labels.size:
        return output.reshape(labels.shape).astype(np.int64)
    scores = _scores(output, labels)
    return np.asarray(np.argmax(scores, axis=-1), np.int64).reshape(labels.shape)


def _scores(output: NDArray[Any], labels: NDArray[Any]) -> NDArray[Any]:
    """Scores with the classes last, one row for each label."""
    for axis in (1, -1):
        classes = output.shape[axis] if output.ndim > 1 else 1
        if classes > 1 and output.size == labels.size * classes:
            return np.moveaxis(output, axis, -1).reshape(labels.size, -1)
    raise InputError(
        f"labels of shape {list(labels.shape)} do not fit the model's first output {list(output.shape)}"
    )


def _hits(output: NDArray[Any], labels: NDArray[Any], top: int) -> Values:
    _check_classes(labels)
    if not (np.issubdtype(output.dtype, np.integer) and output.size == labels.size):
        _check_known(labels, _scores(output, labels).shape[-1])
    if top == 1:
        hit = decisions(output, labels) == labels
    else:
        best = np.argsort(-_scores(output, labels), axis=-1, kind="stable")[:, :top]
        hit = (best == labels.reshape(-1, 1)).any(axis=1)
    return np.asarray(hit.reshape(len(labels), -1).mean(axis=1, dtype=np.float64))


def _check_classes(labels: NDArray[Any]) -> None:
    if not np.issubdtype(labels.dtype, np.integer):
        raise InputError(f"labels are {labels.dtype}; this metric needs class numbers (integers)")


def _check_known(labels: NDArray[Any], classes: int) -> None:
    unknown = labels[(labels < 0) | (labels >= classes)]
    if unknown.size:
        raise InputError(
            f"label {unknown.flat[0]} is no class: the model's first output has {classes}, from 0 on"
        )


def _pairs(output: NDArray[Any], labels: NDArray[Any]) -> tuple[Values, Values]:
    if output.size != labels.size:
        raise InputError(
            f"labels of shape {list(labels.shape)} do not fit the model's first output {list(output.shape)}"
        )
    rows = len(labels)
    return output.reshape(rows, -1).astype(np.float64), labels.reshape(rows, -1).astype(np.float64)


def _mse(output: NDArray[Any], labels: NDArray[Any]) -> Values:
    a, b = _pairs(output, labels)
    return np.asarray(np.mean((a - b) ** 2, axis=1))


def _cosine(output: NDArray[Any], labels: NDArray[Any]) -> Values:
    a, b = _pairs(output, labels)
    norms = np.linalg.norm(a, axis=1) * np.linalg.norm(b, axis=1)
    return np.asarray(np.sum(a * b, axis=1) / np.maximum(norms, np.finfo(np.float64).tiny))


PER_SAMPLE: dict[str, Callable[[NDArray[Any], NDArray[Any]], Values]] = {
    "top1": lambda output, labels: _hits(output, labels, 1),
    "top5": lambda output, labels: _hits(output, labels, 5),
    "mse": _mse,
    "cosine": _cosine,
}
"""Metrics that are the mean of one value for each sample: (output, labels) to shape (samples,)."""

METRICS = (*PER_SAMPLE, "f1")
"""The metrics of `--metric`; `mse` is better when lower, all others when higher."""


def mean_score(metric: str, values: Values) -> Score:
    """The mean of `values`, one for each sample, with its interval.

    Proportions of yes and no take Wilson's score interval (Wilson 1927), other means the normal one.
    """
    count, mean = len(values), float(values.mean())
    if np.isin(values, (0.0, 1.0)).all():
        low, high = wilson(mean, count)
    else:
        half = _Z * float(values.std(ddof=1 if count > 1 else 0)) / math.sqrt(count)
        low, high = mean - half, mean + half
    return Score(metric, mean, low, high, count, values)


def wilson(share: float, count: int) -> tuple[float, float]:
    """Wilson's 95% score interval of a proportion `share` seen in `count` trials."""
    z2 = _Z * _Z
    centre = (share + z2 / (2 * count)) / (1 + z2 / count)
    half = _Z / (1 + z2 / count) * math.sqrt(share * (1 - share) / count + z2 / (4 * count * count))
    return max(0.0, centre - half), min(1.0, centre + half)


@dataclass(frozen=True)
class Change:
    """How far a score moved on the same samples: mean difference, its 95% interval, the p-value of none."""

    mean: float
    low: float
    high: float
    p: float


def change(before: Score, after: Score) -> Change | None:
    """The paired difference `after - before`; None where the scores are not of the same samples.

    The interval is the normal one of the mean difference. The p-value is McNemar's exact one for hits, else
    that of the normal approximation. Without values of each sample both are from bootstrap draws.
    """
    if before.samples != after.samples or before.metric != after.metric:
        return None
    if before.draws is not None and after.draws is not None:
        return _drawn(after.value - before.value, after.draws - before.draws)
    a, b = before.values, after.values
    if a is None or b is None:
        return None
    difference = b - a
    mean, spread = float(difference.mean()), float(difference.std(ddof=1 if a.size > 1 else 0))
    half = _Z * spread / math.sqrt(a.size)
    if np.isin(a, (0.0, 1.0)).all() and np.isin(b, (0.0, 1.0)).all():
        p = paired_test(a > 0, b > 0)
    else:
        p = math.erfc(abs(mean) * math.sqrt(a.size / 2) / spread) if spread else float(mean == 0)
    return Change(mean, mean - half, mean + half, p)


def _drawn(mean: float, differences: Values) -> Change:
    """The percentile interval of the differences, draw by draw, and twice the share on zero's lesser side.

    (Efron & Tibshirani, "An Introduction to the Bootstrap", 1993, chapters 13 and 15.)
    """
    low, high = np.percentile(differences, [2.5, 97.5])
    lesser = min(int(np.sum(differences <= 0)), int(np.sum(differences >= 0)))
    p = min(1.0, 2 * (lesser + 1) / (differences.size + 1))
    return Change(mean, float(low), float(high), p)


def paired_test(before: NDArray[np.bool_], after: NDArray[np.bool_]) -> float:
    """The p-value of McNemar's exact test (1947): two models are right equally often on the same samples.

    `before`, `after`: which samples each has right, [samples]. Only samples on which they differ count: each
    is as likely to go one way as the other.
    """
    gained, lost = int(np.sum(after & ~before)), int(np.sum(before & ~after))
    count = gained + lost
    tail: int = sum(math.comb(count, k) for k in range(min(gained, lost) + 1))
    return float(min(1.0, 2 * tail / 2**count))


def f1_score(chosen: Sequence[NDArray[Any]], labels: Sequence[NDArray[Any]]) -> Score:
    """F1 averaged over the classes that occur (macro), with a percentile bootstrap interval.

    `chosen`, `labels`: classes of each sample, of any shape.
    """
    rows = len(labels)
    flat, truth = (np.concatenate([np.ravel(a) for a in arrays]) for arrays in (chosen, labels))
    _check_classes(truth)
    sample = np.repeat(np.arange(rows), [np.size(a) for a in labels])
    classes, numbers = np.unique(np.concatenate([flat, truth]), return_inverse=True)
    places = numbers.reshape(2, -1)
    drawn = np.random.default_rng(0).integers(0, rows, (_DRAWS, rows))
    draws = np.array([_macro_f1(places, np.bincount(i, minlength=rows)[sample], classes.size) for i in drawn])
    low, high = np.percentile(draws, [2.5, 97.5])
    value = _macro_f1(places, np.ones(sample.size), classes.size)
    return Score("f1", value, float(low), float(high), rows, draws=draws)


def _macro_f1(places: NDArray[np.intp], weights: NDArray[Any], classes: int) -> float:
    """Of the chosen classes and the right ones, `places` [2, n], each counted `weights` [n] times."""
    hit = places[0] == places[1]
    hits = np.bincount(places[0, hit], weights[hit], classes)
    total = np.bincount(places[0], weights, classes) + np.bincount(places[1], weights, classes)
    return float(np.mean(2 * hits[total > 0] / total[total > 0]))
