"""Inputs that a command runs on, and its outputs in a few words."""

from __future__ import annotations

from typing import Any

import numpy as np

from optc.models.data import LABEL, load_arrays
from optc.models.model import Model
from optc.models.session import Arrays, Session
from optc.passes.float_ends import encoded
from optc.passes.verify.inputs import generate_runnable


def feeds_for(model: Model, path: str | None, seed: int = 0) -> Arrays:
    """The arrays of the `.npz` at `path` but its labels, or generated ones (`InputError`).

    float32 is coded where the model takes codes.
    """
    if path is None:
        return generate_runnable(model, Session(model), seed)
    return encoded(model, {name: array for name, array in load_arrays(path).items() if name != LABEL})


def describe_arrays(arrays: Arrays) -> list[dict[str, Any]]:
    """Name, dtype, shape and range of each array."""
    return [_describe(name, np.asarray(array)) for name, array in arrays.items()]


def _describe(name: str, array: np.ndarray[Any, Any]) -> dict[str, Any]:
    found: dict[str, Any] = {"name": name, "dtype": array.dtype.name, "shape": list(array.shape)}
    if array.size and array.dtype.kind in "fiub":
        found |= {"min": array.min().item(), "max": array.max().item()}
    return found
