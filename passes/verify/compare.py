"""How far two models' outputs lie apart, and whether a contract allows it."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from optc.passes.base import Contract, Exact, Tolerance


@dataclass
class Difference:
    """How far one output moved.

    `max_error`: largest absolute difference, in the output's unit; `signal`, `noise`: sums of squares of
    the output before and of the difference; `broken`: how the contract is broken, or None.
    """

    output: str
    max_error: float = 0.0
    signal: float = 0.0
    noise: float = 0.0
    broken: str | None = None

    @property
    def snr_db(self) -> float:
        """Signal-to-noise ratio, 10 log10(signal / noise), in dB; infinite where nothing moved."""
        if self.noise == 0:
            return math.inf
        if self.signal == 0 or math.isinf(self.noise):
            return -math.inf
        return 10 * math.log10(self.signal / self.noise)

    def add(self, other: Difference) -> None:
        """Take in the difference of the same output on another batch."""
        self.max_error = max(self.max_error, other.max_error)
        self.signal += other.signal
        self.noise += other.noise
        self.broken = self.broken or other.broken


def compare(before: Mapping[str, Any], after: Mapping[str, Any], contract: Contract) -> list[Difference]:
    """The difference of every output, by name, in the order of `before`.

    Under any contract names, dtypes and shapes stay and no NaN appears; under `Exact` floats stay within
    the tolerance of their dtype, everything else is equal. NaN equals NaN.
    """
    differences = [
        _compare_value(name, value, after[name], contract) if name in after else _broken(name, "is missing")
        for name, value in before.items()
    ]
    differences += [_broken(name, "is new") for name in after if name not in before]
    return differences


def _broken(name: str, how: str) -> Difference:
    return Difference(name, math.inf, noise=math.inf, broken=how)


def _compare_value(name: str, before: Any, after: Any, contract: Contract) -> Difference:
    """Compare tensors, and element by element the sequences of tensors that some models give."""
    if before is None or after is None:
        return Difference(name) if before is after else _broken(name, "is present in one model only")
    if not isinstance(before, list):
        return _compare_array(name, np.asarray(before), np.asarray(after), contract)
    if not isinstance(after, list) or len(before) != len(after):
        return _broken(name, "is a sequence of another length")
    total = Difference(name)
    for a, b in zip(before, after, strict=True):
        total.add(_compare_array(name, np.asarray(a), np.asarray(b), contract))
    return total


def _compare_array(name: str, a: NDArray[Any], b: NDArray[Any], contract: Contract) -> Difference:
    if a.dtype != b.dtype:
        return _broken(name, f"is {b.dtype}, was {a.dtype}")
    if a.shape != b.shape:
        return _broken(name, f"has shape {list(b.shape)}, had {list(a.shape)}")
    if not _is_numeric(a.dtype):
        return Difference(name) if np.array_equal(a, b) else _broken(name, "differs")
    return _compare_numbers(name, a, b, contract)


def _is_numeric(dtype: np.dtype[Any]) -> bool:
    # bfloat16 and the 8-bit floats of ml_dtypes have kind "V".
    return dtype.kind in "fiub" or (dtype.kind == "V" and "float" in dtype.name)


def _compare_numbers(name: str, a: NDArray[Any], b: NDArray[Any], contract: Contract) -> Difference:
    x, y = a.astype(np.float64), b.astype(np.float64)
    same = (a == b) | (np.isnan(x) & np.isnan(y))
    with np.errstate(invalid="ignore", over="ignore"):
        error = np.where(same, 0.0, np.abs(x - y))
    bad = np.isnan(error) | np.isinf(error)
    error[bad] = np.inf
    finite = np.where(np.isfinite(x), x, 0.0)
    difference = Difference(
        name,
        max_error=float(error.max(initial=0.0)),
        signal=float(np.sum(finite * finite)),
        noise=float(np.sum(error * error)),
    )
    if np.any(np.isnan(y) & ~np.isnan(x)):
        difference.broken = "holds NaN where there was none"
    elif isinstance(contract, Exact):
        difference.broken = _over_tolerance(a.dtype, finite, error, contract)
    return difference


def _over_tolerance(
    dtype: np.dtype[Any], before: NDArray[np.float64], error: NDArray[np.float64], contract: Exact
) -> str | None:
    """How an exact contract is broken: `|a - b| <= atol * max|a| + rtol * |a|` for floats, else equality."""
    tolerance = contract.tolerance.get(dtype.name, Tolerance(0.0, 0.0))
    allowed = tolerance.atol * np.abs(before).max(initial=0.0) + tolerance.rtol * np.abs(before)
    over = error > allowed
    if not over.any():
        return None
    worst = int(np.argmax(np.where(over, error - allowed, -np.inf)))
    return (
        f"moved by {error.flat[worst]:.3g} where {allowed.flat[worst]:.3g} is allowed "
        f"({int(over.sum())} of {over.size} {dtype} values)"
    )
