"""From sums in ACC to codes: ALU steps for shifts, rounding and clamping (docs/semantics.md)."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from optc.passes.quantize.integer.ops import Clamped
from optc.passes.quantize.reference import SURE_TO_SATURATE, Rounding
from optc.targets.vta.compiler.stages import Combine, Immediate, Plane, Reset, Step, Vector
from optc.targets.vta.isa import AluOp

Array = NDArray[Any]

_MOST = 15
"""The largest shift to the right of one instruction."""

_LEFT_MOST = 16


@dataclass(frozen=True)
class Requantization:
    """What brings a sum to codes: `add`, int64 for each channel or one for all, then `shifts`, `clamps`.

    `scratch`: plane 1 is needed, of the size of plane 0.
    """

    add: Array
    shifts: tuple[Step, ...]
    clamps: tuple[Step, ...]
    scratch: bool = False


def requantization(
    bits: Array, target: Clamped, rounding: Rounding, bound: float, lanes: tuple[int, int]
) -> Requantization | str:
    """Down by `bits` (one, or one a channel), rounded, moved by the zero point and clamped; or why not.

    `bound`: no |sum| is larger; `lanes`: (blocks, BLOCK) of the output.
    """
    bits = np.asarray(bits, np.int64).reshape(-1)
    if (bits == bits[0]).all():
        return _uniform(int(bits[0]), target, rounding, bound)
    if rounding == "even":
        return "a shift for each channel with rounding to even"
    if bits.min() < 0 or bits.max() > 2 * _MOST:
        return f"its shifts of {bits.min()} to {bits.max()} bits, one a channel, are beyond 0 to {2 * _MOST}"
    half = np.where(bits > 0, np.int64(1) << np.maximum(bits - 1, 0), 0)
    if bound + half.max() >= 2**31:
        return "its sum could overflow int32 with the rounding term"
    low = max(0, int(bits.max()) - _MOST)
    if bits.min() < low:
        return f"its shifts differ by more than {_MOST} bits between channels"
    first = shift_right(low)
    shifts = (*first, Vector(AluOp.SHR, vector(bits - low, *lanes)))
    return Requantization(half, shifts, tuple(clamp(target)))


def _uniform(bits: int, target: Clamped, rounding: Rounding, bound: float) -> Requantization | str:
    if bits > 2 * _MOST:
        return f"it shifts by {bits} bits, VTA by {2 * _MOST} at most"
    if bits <= 0:
        steps: list[Step] = []
        if bound * 2.0**-bits >= 2**31 - 2**8:  # with room for a zero point
            steps += [Immediate(AluOp.MIN, SURE_TO_SATURATE), Immediate(AluOp.MAX, -SURE_TO_SATURATE)]
        left = min(-bits, 16)
        if left:
            steps.append(Immediate(AluOp.SHR, -left))
        return Requantization(np.zeros((), np.int64), tuple(steps), tuple(clamp(target)))
    if bound + 2.0 ** (bits - 1) >= 2**31:
        return "its sum could overflow int32 with the rounding term"
    half = np.asarray(1 << (bits - 1), np.int64)
    ties = _to_even(bits) if rounding == "even" else ()
    return Requantization(half, (*ties, *shift_right(bits)), tuple(clamp(target)), bool(ties))


def shift_right(bits: int) -> list[Step]:
    """Down by `bits`, cut off."""
    steps: list[Step] = []
    while bits > 0:
        now = min(bits, _MOST)
        steps.append(Immediate(AluOp.SHR, now))
        bits -= now
    return steps


def shift_left(bits: int, plane: int = 0) -> list[Step]:
    """Up by `bits`."""
    steps: list[Step] = []
    while bits > 0:
        now = min(bits, _LEFT_MOST)
        steps.append(Immediate(AluOp.SHR, -now, plane))
        bits -= now
    return steps


def spread_left(bits: Array, plane: int, lanes: tuple[int, int]) -> list[Step] | None:
    """Up by `bits`, one a channel: all by the largest, then each down again; None where it is too far."""
    most = int(bits.max())
    if (bits == most).all():
        return shift_left(most, plane)
    if most - int(bits.min()) > _MOST:
        return None
    down = Vector(AluOp.SHR, vector(most - bits, *lanes), plane)
    return [*shift_left(most, plane), down]


def _to_even(bits: int) -> tuple[Step, ...]:
    """One less where sum + half, shifted, is odd: only a tie becomes another number by that.

    Plane 1 takes bit `bits` of the sum to the sign, then -1 where it is set.
    """
    up = shift_left(31 - bits, 1)
    copy = (Reset(1), Combine(AluOp.ADD, 0, 1))
    sign = (Immediate(AluOp.MIN, 0, 1), Immediate(AluOp.MAX, -1, 1))
    return (*copy, *up, *sign, Combine(AluOp.ADD, 1, 0))


def clamp(target: Clamped) -> list[Step]:
    """Move by the zero point, and clamp."""
    moved: list[Step] = []
    if target.code.zero_point:
        moved.append(Immediate(AluOp.ADD, target.code.zero_point))
    return [*moved, Immediate(AluOp.MAX, target.low), Immediate(AluOp.MIN, target.high)]


def without_idle_max(steps: Sequence[Step]) -> tuple[Step, ...]:
    """`steps` without a MAX that a larger MAX follows, with nothing but a MIN between."""
    kept: list[Step] = []
    for number, step in enumerate(steps):
        behind = [s for s in steps[number + 1 : number + 3]]
        if len(behind) == 2 and isinstance(behind[0], Immediate) and behind[0].op == AluOp.MIN:
            behind = behind[1:]
        if isinstance(step, Immediate) and step.op == AluOp.MAX and _maximum(behind[0]) >= step.value:
            continue
        kept.append(step)
    return tuple(kept)


def _maximum(step: Step) -> int:
    """What a MAX on plane 0 brings every value to, at least; for other steps nothing."""
    if isinstance(step, Immediate | Vector) and step.op == AluOp.MAX and step.plane == 0:
        return step.value if isinstance(step, Immediate) else int(step.values.min())
    return _NOTHING


_NOTHING = -(1 << 31)


def same_plane(rows: int, columns: int) -> Plane:
    """A plane as large as the tile."""
    from optc.targets.vta.compiler.stages import Axis

    return Plane(Axis(rows), Axis(columns))


def vector(values: Array, blocks: int, block: int) -> NDArray[np.int32]:
    """One value a channel as ACC elements, int32 (blocks, BLOCK); zeros fill up."""
    lanes = np.zeros(blocks * block, np.int32)
    flat = np.asarray(values).reshape(-1)
    lanes[: flat.size] = flat
    return lanes.reshape(blocks, block)
