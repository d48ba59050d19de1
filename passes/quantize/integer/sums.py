"""Sums of terms with power-of-two scales as shifts (docs/semantics.md, "Sums")."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from optc.passes.quantize.integer.ops import Term
from optc.passes.quantize.scales import Code

Array = NDArray[Any]

ROOM = 2**30
"""What the terms of a sum may reach together: half of int32's range is left to the rounding term."""


@dataclass(frozen=True, eq=False)
class Shifts:
    """`sum(k_i << lefts[i])`, then down by `bits` (negative: up): int64 arrays that broadcast."""

    lefts: tuple[Array, ...]
    bits: Array


def exponents(scale: Array) -> Array | None:
    """The exponents of `scale` where every entry is a power of two, else None."""
    fraction, exponent = np.frexp(np.asarray(scale, np.float64))
    return np.asarray(exponent - 1, np.int64) if np.all(fraction == 0.5) else None


def shifts(terms: Sequence[Term], code: Code) -> Shifts | None:
    """The sum of `terms` as shifts; None where a scale is no power of two or int32 might overflow."""
    found = [exponents(term.scale) for term in terms]
    target = exponents(np.asarray(code.scale))
    known = [e for e in found if e is not None]
    if target is None or len(known) < len(terms):
        return None
    finest = np.asarray(np.minimum.reduce(np.broadcast_arrays(*known)))
    lefts = tuple(np.asarray(e - finest) for e in known)
    total = sum(t.bound * np.ldexp(1.0, np.minimum(left, 64)) for t, left in zip(terms, lefts, strict=True))
    return Shifts(lefts, np.asarray(target - finest)) if np.all(total < ROOM) else None
