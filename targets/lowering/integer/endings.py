"""What becomes of accumulators, as expressions of TIR (docs/semantics.md). Imports TVM: load it late."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray
from tvm import te, tirx

from optc.passes.quantize.integer.ops import (
    Biased,
    Clamped,
    Ending,
    Scaled,
    Shifted,
    ToAccumulator,
    ToFloat,
)
from optc.passes.quantize.reference import SURE_TO_SATURATE, Rounding
from optc.passes.quantize.scales import INT32_MAX
from optc.targets.lowering.integer.tensors import Given, at, constants

Array = NDArray[Any]

_EXACT_IN_FLOAT64 = 2**29
"""A smaller integer times a float32 is exact in float64."""


def ending_constants(ending: Ending) -> dict[str, Any]:
    """The arrays that `ended` wants, as arguments of `emit_te`."""
    match ending:
        case Scaled():
            return constants(multiplier=ending.multiplier)
        case Shifted():
            return shift_constants(ending.bits)
        case Biased() | ToFloat():
            return constants(scale=ending.scale, addend=ending.bias)
    return {}


def ending_type(ending: Ending) -> str:
    """The dtype of what an ending writes."""
    match ending:
        case Scaled() | Shifted() | Biased():
            return str(ending.target.code.dtype)
        case ToFloat():
            return "float32"
    return "int32"


def ended(
    acc: Any, ending: Ending, bound: int, rounding: Rounding, given: Given, index: Sequence[Any]
) -> Any:
    """What the int32 accumulator `acc` at `index` becomes; no |acc| is above `bound`."""
    match ending:
        case Scaled(target):
            product = acc.astype("float32") * at(given["multiplier"], index)
            return codes(rounded(product, rounding), target)
        case Shifted(target, bits):
            return shifted(acc, bits, bound, target, rounding, given, index)
        case Biased(target):
            total = product64(acc, at(given["scale"], index), bound) + _addend(given, index)
            return codes(rounded(total / _float64(target.code.scale), rounding), target)
        case ToAccumulator():
            return acc
        case ToFloat(_, None):
            return acc.astype("float32") * at(given["scale"], index)
        case ToFloat():
            total = product64(acc, at(given["scale"], index), bound) + _addend(given, index)
            return total.astype("float32")
    raise TypeError(f"unknown ending {ending}")


def _addend(given: Given, index: Sequence[Any]) -> Any:
    return at(given["addend"], index).astype("float64")


def _dtype(value: Any) -> str:
    return str(value.ty.dtype)


def _float64(value: Any) -> Any:
    return tirx.const(float(value), "float64")


def product64(integer: Any, scale: Any, bound: int) -> Any:
    """`integer * scale` rounded once to float64, whether or not the compiler fuses multiply and add."""
    factor = scale.astype("float64")
    if bound < _EXACT_IN_FLOAT64:
        return integer.astype("float64") * factor
    high = integer >> 16
    low = integer & 0xFFFF  # integer = high * 65536 + low; both products are exact
    return high.astype("float64") * 65536.0 * factor + low.astype("float64") * factor


def rounded(value: Any, rounding: Rounding) -> Any:
    """A float expression to the nearest integer; a tie goes to the even one, or up (towards +infinity)."""
    if rounding == "even":
        return te.nearbyint(value)
    below = te.floor(value)  # compared, not subtracted: a compiler could fuse that with a product in `value`
    return below + (value >= below + 0.5).astype(_dtype(value))


def codes(whole: Any, target: Clamped) -> Any:
    """Codes of whole numbers (integers or floats): moved by the zero point and clamped."""
    limit = tirx.const(SURE_TO_SATURATE, _dtype(whole))
    safe = te.max(te.min(whole, limit), -limit).astype("int32") + target.code.zero_point
    return te.max(te.min(safe, target.high), target.low).astype(str(target.code.dtype))


def shift_constants(bits: Array) -> dict[str, Any]:
    """The arrays that `shifted` wants: `right`, `half` (0 where nothing is shifted) and, if any, `left`."""
    right = np.clip(bits, 0, 62)
    half = np.where(right > 0, np.int64(1) << np.maximum(right - 1, 0), 0)
    left = np.clip(-bits, 0, 31)
    kind = np.int32 if right.max() <= _INT32_SHIFT else np.int64
    return constants(right=right.astype(kind), half=half.astype(kind), left=left if left.any() else None)


_INT32_SHIFT = 30
"""The largest shift of which half a step is an int32."""


def shifted(
    acc: Any,
    bits: Array,
    bound: int,
    target: Clamped,
    rounding: Rounding,
    given: Given,
    index: Sequence[Any],
) -> Any:
    """Codes of `acc / 2**bits`, in int32 where half a step more than `bound` fits, else in int64."""
    top = int(np.max(bits, initial=0))
    kind = "int32" if top <= _INT32_SHIFT and bound + 2**top <= INT32_MAX else "int64"
    acc = acc.astype(kind)
    right, half = (at(given[name], index).astype(kind) for name in ("right", "half"))
    if rounding == "half_up":
        down = (acc + half) >> right
    else:
        down = acc >> right
        rest = acc - (down << right)
        tie_to_even = tirx.all(rest == half, half > 0, (down & 1) == 1)
        down = down + tirx.any(rest > half, tie_to_even).astype(kind)
    if "left" not in given:
        return codes(down, target)
    limit = tirx.const(SURE_TO_SATURATE, kind)
    safe = te.max(te.min(down, limit), -limit).astype("int64")
    return codes(safe << at(given["left"], index), target)
