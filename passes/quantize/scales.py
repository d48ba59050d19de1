"""Codes: how a float value is written as an integer of 8 or 16 bits (docs/semantics.md, "Codes")."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

Array = NDArray[Any]

INT32_MAX = 2**31 - 1
SMALLEST, LARGEST = 2.0**-63, 2.0**63
"""Bounds of every scale: a product of two of them is still a normal float32."""


@dataclass(frozen=True)
class Code:
    """The code of a value: `x = scale * (q - zero_point)`, with `q` of `dtype` (int8, uint8 or int16)."""

    scale: np.float32
    zero_point: int
    dtype: np.dtype[Any]

    @property
    def limits(self) -> tuple[int, int]:
        """The smallest and the largest code."""
        info = np.iinfo(self.dtype)
        return int(info.min), int(info.max)

    @property
    def accumulator_max(self) -> int:
        """What sums of products by int8 weights must not pass: int32 for 8 bits, int64 (in ONNX, float) for
        16.
        """
        return INT32_MAX if self.dtype.itemsize == 1 else 2**62

    @property
    def reach(self) -> int:
        """The largest `|q - zero_point|`."""
        return max(self.zero_point - self.limits[0], self.limits[1] - self.zero_point)

    def quantize(self, x: Array) -> Array:
        """ONNX's QuantizeLinear: `clamp(rint(x / scale) + zero_point)`, the division in float32."""
        q = np.rint(x.astype(np.float32) / self.scale) + np.float32(self.zero_point)
        return np.asarray(np.clip(q, *self.limits), self.dtype)

    def dequantize(self, q: Array) -> Array:
        """ONNX's DequantizeLinear: `(q - zero_point) * scale` in float32."""
        return np.asarray((q.astype(np.int32) - self.zero_point).astype(np.float32) * self.scale)


def bounded(scale: Array | np.float64) -> Array:
    """`scale` within the bounds, as float32; 0, of a value that is always zero, becomes 1."""
    return np.asarray(np.where(scale > 0, np.clip(scale, SMALLEST, LARGEST), 1.0), np.float32)


def power_of_two(scale: Array | np.float64) -> Array:
    """The smallest power of two not below `scale`, elementwise and exact; 0 stays 0."""
    fraction, exponent = np.frexp(scale)  # scale = fraction * 2**exponent, 0.5 <= fraction < 1
    return np.asarray(np.where(fraction > 0, np.ldexp(1.0, exponent - (fraction == 0.5)), 0.0))


def activation_code(low: float, high: float, dtype: np.dtype[Any], pow2: bool) -> Code:
    """The code of an activation whose values were seen in [low, high].

    Zero always has a code of its own. uint8 with free scales spans [min(low, 0), max(high, 0)], so the zero
    point is 0 after a Relu; int8 and int16 are symmetric with zero point 0; uint8 with power-of-two scales
    has zero point 0 where nothing is negative, else 128 (the int8 code, moved by 128). No value in the range
    saturates by more than half a step.
    """
    low, high = min(low, 0.0), max(high, 0.0)
    if dtype == np.uint8 and not pow2:
        free = _spanning(low, high)
        return Code(free, int(np.clip(np.rint(-low / np.float64(free)), 0, 255)), dtype)
    moved = dtype == np.uint8 and low < 0
    widest = np.float64(max(-low, high)) / (127 if moved else np.iinfo(dtype).max)
    scale = np.float32(bounded(power_of_two(widest) if pow2 else widest))
    return Code(scale, 128 if moved else 0, dtype)


def _spanning(low: float, high: float) -> np.float32:
    """The scale by which 255 steps span [low, high]; from 0 up, they do not pass `high` by an ulp.

    ONNX Runtime drops a Clip before a Q only where no code can pass the Clip's bound.
    """
    scale = np.float32(bounded(np.float64(high - low) / 255))
    if low == 0 < high and scale > SMALLEST and scale * np.float32(255) > np.float32(high):
        return np.float32(np.nextafter(scale, np.float32(0)))
    return scale
