"""Relu(scale * x + shift) without the multiplication: as bounds of x, and factors for the layers behind."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

Doubles = NDArray[np.float64]

_LOST = 2.0**100
"""Where the shift is so many times the scale, `scale * x` is lost beside it: the channel is a constant."""


@dataclass(frozen=True, eq=False)
class Form:
    """`factor * min(max(x + addend, low), high) + offset`, one float64 a channel; bounds may be infinite."""

    addend: Doubles
    low: Doubles
    high: Doubles
    factor: Doubles
    offset: Doubles


def zero_form(scale: Doubles, shift: Doubles, relu: bool, dtype: Any) -> Form:
    """`scale * x + shift`, through a Relu where `relu`, with offset 0: where it is 0, so is what is left.

    All arrays are [c]. Constants of `x` are rounded to `dtype`. For scale s and shift t: s > 0 is
    s * max(x + t/s, 0), s < 0 is s * min(x + t/s, 0), and s = 0 the constant max(t, 0).
    """
    lost = _lost(scale, shift)
    value = np.maximum(shift, 0) if relu else shift
    fixed = lost & (value != 0)
    rising = np.where(lost, bool((~lost & (scale > 0)).any()), scale > 0)
    low = np.where(rising & relu, 0.0, -np.inf)
    high = np.where(~rising & relu, 0.0, np.inf)
    rounded = value.astype(dtype).astype(np.float64)
    return Form(
        -_threshold(scale, shift, lost, dtype),
        np.where(fixed, rounded, low),
        np.where(fixed, rounded, high),
        np.where(lost, fixed.astype(np.float64), scale),
        np.zeros_like(scale),
    )


def offset_form(scale: Doubles, shift: Doubles, relu: bool, dtype: Any) -> Form:
    """As `zero_form`, with addend 0: s > 0 is s * max(x, -t/s) + t, s < 0 is s * min(x, -t/s) + t."""
    lost = _lost(scale, shift)
    value = np.maximum(shift, 0) if relu else shift
    bound = _threshold(scale, shift, lost, dtype)
    return Form(
        np.zeros_like(scale),
        np.where(~lost & (scale > 0) & relu, bound, -np.inf),
        np.where(~lost & (scale < 0) & relu, bound, np.inf),
        np.where(lost, 0.0, scale),
        np.where(lost, value, -scale * bound),  # of the rounded bound, so that it gives exactly 0
    )


def _lost(scale: Doubles, shift: Doubles) -> NDArray[np.bool_]:
    return np.asarray(np.abs(scale) * _LOST <= np.abs(shift))


def _threshold(scale: Doubles, shift: Doubles, lost: NDArray[np.bool_], dtype: Any) -> Doubles:
    """The x at which `scale * x + shift` is 0."""
    exact = np.where(lost, 0.0, -shift / np.where(lost, 1.0, scale)) + 0.0  # no -0
    return np.asarray(exact.astype(dtype), np.float64)
