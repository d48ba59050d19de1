"""Terms of different scales in one accumulator (docs/semantics.md, "Sums")."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from optc.targets.vta.compiler.requantize import Requantization, shift_right, spread_left, vector
from optc.targets.vta.compiler.stages import Accumulate, Combine, Reset, Step, Term, Vector
from optc.targets.vta.isa import AluOp

Array = NDArray[Any]

_INT32 = 2**31


@dataclass(frozen=True, eq=False)
class Part:
    """A term of a sum: `left`, by how many bits each channel goes up to the finest scale; `bound` before."""

    term: Term
    left: Array
    bound: float


@dataclass(frozen=True, eq=False)
class Aligned:
    """A sum: steps that come first, the terms at the finest scale, and what brings the sum to codes."""

    before: tuple[Step, ...]
    terms: tuple[Term, ...]
    needed: Requantization
    scratch: bool = False


def aligned(
    parts: Sequence[Part], bits: Array, needed: Requantization, cut: bool, lanes: tuple[int, int]
) -> Aligned | str:
    """Bring terms to one scale, in this order of preference; or why that cannot be.

    By a factor in the weights; where a shift of the sum cuts bits off (`cut`, rounding half up), behind it or
    between its two parts, since floor((x + y * 2^b) / 2^b) = floor(x / 2^b) + y; by a shift of what came
    before; in a plane of ACC by itself. `bits`: by how many bits the sum goes down; `needed`: the same.
    """
    now: list[Term] = []
    rest: list[Part] = []
    for part in parts:
        moved = scaled(part.term, part.left)
        if moved is None:
            rest.append(part)
        else:
            now.append(moved)
    late = _between(rest, bits, needed, lanes) if cut and rest else None
    if late is not None:
        return Aligned((), tuple(now), late)
    before: list[Step] = []
    for number, part in enumerate(rest):
        plane = 0 if number == 0 else 1
        up = spread_left(part.left, plane, lanes)
        if up is None or part.bound * 2.0 ** int(part.left.max()) >= _INT32:
            return "the scales of what it adds lie too far apart"
        before += [*([Reset(1)] if plane else []), Accumulate((part.term,), plane), *up]
        if plane:
            before.append(Combine(AluOp.ADD, 1, 0))
    return Aligned(tuple(before), tuple(now), needed, len(rest) > 1)


def _between(
    parts: Sequence[Part], bits: Array, needed: Requantization, lanes: tuple[int, int]
) -> Requantization | None:
    """The way down with `parts` added on it, as late as may be; None where that does not go."""
    after = np.stack([p.left - bits for p in parts])
    last = max(0, -int(after.min()))
    first = bits - last
    if first.min() < 0 or bits.min() < 1 or first.max() > 15:
        return None
    terms = [scaled(p.term, a + last) for p, a in zip(parts, after, strict=True)]
    if any(t is None for t in terms):
        return None
    uniform = (first == first[0]).all()
    down = shift_right(int(first[0])) if uniform else [Vector(AluOp.SHR, vector(first, *lanes))]
    shifts = (*down, Accumulate(tuple(t for t in terms if t)), *shift_right(last))
    return replace(needed, shifts=shifts)


def scaled(term: Term, left: Array) -> Term | None:
    """`term` times 2^left, one for each channel; None where a weight is no int8 then."""
    if not left.any():
        return term
    if left.min() < 0 or left.max() > 7:
        return None
    if (left == left[0]).all():
        weights = term.constants.astype(np.int64) << int(left[0])
        index = term.index
    else:
        block = term.constants.shape[1]
        lanes = np.zeros(-(-left.size // block) * block, np.int64)
        lanes[: left.size] = left
        weights = term.constants[term.index[:, 4]].astype(np.int64)
        weights = weights << lanes.reshape(-1, block)[term.index[:, 0]][:, :, None]
        index = term.index.copy()
        index[:, 4] = np.arange(len(index))
    if weights.size and (weights.min() < -128 or weights.max() > 127):
        return None
    return replace(term, index=index, weights=weights.astype(np.int8))
