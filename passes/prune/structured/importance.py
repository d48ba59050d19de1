"""How much each channel matters: the scores of the weights that make and read it."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
from numpy.typing import NDArray

from optc.passes.prune.structured.families import Channels, Family, Slot

Array = NDArray[Any]
Scores = Callable[[Slot], Array | None]
"""The scores of a slot's weight, of its shape; None where the criterion has none for it."""


def importance(family: Family, channels: Channels, scores: Scores) -> Array:
    """A number for each channel of `family`: the mean share that it has of the scores of each weight around
    it.

    Weights of different layers count alike, whatever their scale. The numbers sum to 1 (or are all 0).
    """
    total, counted = np.zeros(family.components.size), 0
    order = {int(c): i for i, c in enumerate(family.components)}
    for slot in (*family.makers, *family.readers):
        found = scores(slot)
        if found is None:
            continue
        others = tuple(a for a in range(found.ndim) if a != slot.axis)
        sums = np.zeros(family.components.size)
        for component, value in zip(
            channels.components[slot.atoms].tolist(),
            found.sum(axis=others, dtype=np.float64).tolist(),
            strict=True,
        ):
            if component in order:
                sums[order[component]] += value
        if sums.sum() > 0:
            total, counted = total + sums / sums.sum(), counted + 1
    return total / max(counted, 1)
