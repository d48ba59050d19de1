"""Cutting a caller's batch into micro-batches, and putting their results together again."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from optc.models.errors import InputError
from optc.targets.feeds import Spec, check_arrays

Arrays = dict[str, NDArray[Any]]


def batch_axis(inputs: Sequence[Spec], outputs: Sequence[Spec]) -> int | str | None:
    """Size or name of the first axis that all inputs and outputs have; None where there is no such one."""
    firsts = {spec["shape"][0] if spec["shape"] else None for spec in (*inputs, *outputs)}
    if not inputs or len(firsts) > 1 or firsts & {None, 0}:
        return None
    return firsts.pop()


def micro_batches(
    feeds: Mapping[str, NDArray[Any]], inputs: Sequence[Spec], outputs: Sequence[Spec], count: int
) -> list[Arrays]:
    """The batch cut along the first axis of all inputs.

    Where that axis is of fixed size in the model, into pieces of that size; where it is free (the same
    dimension in all inputs and outputs), into `count` even ones, or fewer where there are fewer samples.
    Where the model has no batch axis, the feeds are one request. `InputError` where the arrays do not fit
    the inputs, or the sizes do not go together.
    """
    if set(feeds) != {spec["name"] for spec in inputs}:
        check_arrays(inputs, feeds)
    size = batch_axis(inputs, outputs)
    if size is None:
        return [dict(feeds)]
    scalar = next((name for name, array in feeds.items() if not np.ndim(array)), None)
    if scalar is not None:
        raise InputError(f"input '{scalar}' has no axis of samples; give an array with the samples first")
    given = {name: len(array) for name, array in feeds.items()}
    total = max(given.values())
    other = next((name for name, n in given.items() if n != total), None)
    if other is not None:
        raise InputError(
            f"input '{other}' has {given[other]} samples, others have {total}; give as many of each"
        )
    if not isinstance(size, int):
        ends = np.linspace(0, total, max(min(count, total), 1) + 1).astype(int)
    elif total and total % size == 0:
        ends = np.arange(0, total + 1, size)
    else:
        raise InputError(f"the model takes {size} samples at once, {total} are given; give a multiple")
    pairs = zip(ends[:-1], ends[1:], strict=True)
    cut = [{name: array[a:b] for name, array in feeds.items()} for a, b in pairs]
    for request in cut:
        check_arrays(inputs, request)
    return cut


def joined(results: Sequence[Arrays]) -> Arrays:
    """The outputs of all micro-batches, one after the other along the first axis."""
    if len(results) == 1:
        return results[0]
    return {name: np.concatenate([r[name] for r in results]) for name in results[0]}
