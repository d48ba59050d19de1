"""The obvious cuts of a problem's own order: equal numbers of items, equal seconds, equal work."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from itertools import accumulate

from optc.passes.partition.problem import Problem


def equal_counts(problem: Problem, count: int) -> list[int]:
    """The stage of every item in `count` stages of equal numbers of items."""
    return [place * count // len(problem.items) for place in range(len(problem.items))]


def equal_shares(weights: Sequence[float], count: int) -> list[int]:
    """The stage of every item where each stage gets an equal share of `weights`, by where the item begins.

    A stage stays empty where one item weighs more than its share.
    """
    total = sum(weights)
    if not total:
        return [0] * len(weights)
    begins = accumulate(weights, initial=0)
    return [min(int(begin * count / total), count - 1) for begin, _ in zip(begins, weights, strict=False)]


def even_cuts(problem: Problem, count: int) -> Iterator[list[int]]:
    """Those of the cuts that leave no stage empty."""
    weights = ([item.seconds for item in problem.items], [item.macs for item in problem.items])
    for stage in (equal_counts(problem, count), *(equal_shares(w, count) for w in weights)):
        if len(set(stage)) == count:
            yield stage
