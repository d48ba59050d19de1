"""The exact integers of a quantized model, in numpy: the primitives that docs/semantics.md defines.

Targets are compared with these code by code. Accumulators and codes are integer arrays; a channel's
multiplier, scale or shift must be shaped to broadcast against them.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from optc.passes.quantize.scales import Code

Array = NDArray[Any]
Rounding = Literal["even", "half_up"]

SURE_TO_SATURATE = 512
"""More than any code and zero point together: a larger value is clamped whatever it is."""


def rounded(values: Array, rounding: Rounding) -> Array:
    """float64 `values` to the nearest integer; a tie goes to the even one, or up (towards +infinity)."""
    if rounding == "even":
        return np.asarray(np.rint(values))
    below = np.floor(values)
    return np.asarray(below + (values - below >= 0.5))


def clamped(integers: Array, code: Code) -> Array:
    """`integers + zero_point` within the codes' limits, as codes."""
    safe = np.clip(integers, -SURE_TO_SATURATE, SURE_TO_SATURATE)
    return np.asarray(np.clip(safe + code.zero_point, *code.limits), code.dtype)


def quantize(x: Array, code: Code, rounding: Rounding = "even") -> Array:
    """Codes of float32 `x`: the quotient `x / scale` in float32, rounded, moved and clamped."""
    quotient = x.astype(np.float32) / code.scale
    return clamped(rounded(quotient.astype(np.float64), rounding), code)


def requantize(acc: Array, multiplier: Array, code: Code, rounding: Rounding = "even") -> Array:
    """Codes of int32 accumulators, free scales: `float32(acc) * multiplier`, rounded, moved and clamped.

    `multiplier` is float32: `(x_scale * w_scale) / y_scale`, each step in float32, in this order.
    """
    product = acc.astype(np.float32) * multiplier.astype(np.float32)
    return clamped(rounded(product.astype(np.float64), rounding), code)


def shift(acc: Array, bits: Array, code: Code, rounding: Rounding = "even") -> Array:
    """Codes of accumulators, power-of-two scales: `acc / 2**bits`, exactly rounded, moved and clamped.

    A negative shift multiplies; what passes the limits saturates, no bit is lost.
    """
    acc, bits = np.broadcast_arrays(acc.astype(np.int64), np.asarray(bits, np.int64))
    right = np.clip(bits, 0, 62)
    half = np.where(right > 0, np.int64(1) << np.maximum(right - 1, 0), 0)
    if rounding == "half_up":
        down = (acc + half) >> right
    else:
        down = acc >> right
        rest = acc - (down << right)
        down = down + ((rest > half) | ((rest == half) & (right > 0) & (down & 1 == 1)))
    left = np.clip(-bits, 0, 31)
    return clamped(np.clip(down, -SURE_TO_SATURATE, SURE_TO_SATURATE) << left, code)


def requantize_sum(
    terms: Sequence[tuple[Array, Array]], code: Code, rounding: Rounding = "even", count: int | Array = 1
) -> Array:
    """Codes of `sum(scale * integer) / (count * y_scale)` over `terms` of (float32 scale, integers).

    An Add of codes or accumulators; with one term and `count`, the mean of `count` codes' sum. A term of
    scale 1 may also be float32 values, such as a float bias. Products and their sum in float64, one division,
    one rounding.
    """
    total: Array = np.zeros((), np.float64)
    for scale, integers in terms:
        total = total + np.asarray(scale, np.float64) * integers.astype(np.float64)
    return clamped(rounded(total / (count * np.float64(code.scale)), rounding), code)
