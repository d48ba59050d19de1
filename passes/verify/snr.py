"""The signal-to-noise ratio of a model's outputs over many runs."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from optc.models.session import Arrays
from optc.passes.base import Lossy
from optc.passes.verify.compare import Difference, compare

Array = NDArray[Any]


def worst_snr(clean: Sequence[Arrays], found: Sequence[Arrays]) -> float:
    """The worst signal-to-noise ratio in dB among the float outputs of `found`, over all samples.

    `clean`, `found`: outputs by name, run by run. Where no output is float, the worst of all.
    """
    names = list(found[0])
    floats = [n for n in names if getattr(clean[0][n], "dtype", np.dtype(bool)).kind == "f"] or names
    return min((_difference(n, clean, found).snr_db for n in floats), default=math.inf)


def _difference(name: str, clean: Sequence[Arrays], found: Sequence[Arrays]) -> Difference:
    total = Difference(name)
    for a, b in zip(clean, found, strict=True):
        total.add(_fast(name, a[name], b[name]) or compare({name: a[name]}, {name: b[name]}, Lossy(""))[0])
    return total


def _fast(name: str, a: Any, b: Any) -> Difference | None:
    """The powers of float32 `a` and of the difference, without copies in float64; None where they pass
    float32.
    """
    if not all(isinstance(v, np.ndarray) and v.dtype == np.float32 for v in (a, b)) or a.shape != b.shape:
        return None
    with np.errstate(over="ignore", invalid="ignore"):
        error = (b - a).reshape(-1)
        noise, signal = float(error @ error), float(a.reshape(-1) @ a.reshape(-1))
    sound = all(np.finfo(np.float32).tiny < power < math.inf for power in (noise, signal))
    return Difference(name, signal=signal, noise=noise) if sound else None
