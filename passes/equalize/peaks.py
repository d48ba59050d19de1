"""The largest magnitudes of values, channel by channel, over calibration samples."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from optc.models.model import Model
from optc.passes.base import Context
from optc.passes.calibrate import observe
from optc.passes.equalize.groups import Group

Array = NDArray[Any]


class Peaks:
    """The largest magnitude at each index of some axes, of all arrays seen; `largest`: by axis."""

    def __init__(self) -> None:
        self.largest: dict[int, Array | float] = {}

    def add(self, values: Array) -> None:
        """Take in `values`."""
        magnitudes = np.abs(values)
        for axis in self.largest:
            others = tuple(a for a in range(values.ndim) if a != axis)
            self.largest[axis] = np.maximum(self.largest[axis], magnitudes.max(axis=others, initial=0))


def find_peaks(
    model: Model, groups: tuple[Group, ...], context: Context, samples: int
) -> dict[tuple[str, int], Array]:
    """The peaks of what the groups' readers read, by name and axis, over the first `samples` samples.

    Raises `InputError` as `observe` does.
    """
    watched: dict[str, Peaks] = {}
    for slot in (s for group in groups for s in group.readers if s.weight):
        watched.setdefault(slot.value.tensor.name, Peaks()).largest[slot.axis] = 0.0
    observe(model, watched, context, samples, "equalize{method=smooth}")
    return {(n, axis): np.asarray(v) for n, p in watched.items() for axis, v in p.largest.items()}
