"""From sums to codes in ALU steps: every value against docs/semantics.md's shift."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from optc.passes.quantize.integer.ops import Clamped
from optc.passes.quantize.reference import shift
from optc.passes.quantize.scales import Code
from optc.targets.vta.compiler.requantize import Requantization, clamp, requantization, without_idle_max
from optc.targets.vta.compiler.stages import Combine, Extent, Immediate, Reset, Step, Vector, Write
from optc.targets.vta.isa import AluOp

INT32 = 2**32


def wrapped(values: np.ndarray) -> np.ndarray:
    """int64 as 32 bits hold them."""
    return (values + INT32 // 2) % INT32 - INT32 // 2


def alu(op: AluOp, x: np.ndarray, y: np.ndarray) -> np.ndarray:
    """docs/vta.md, "What the instructions do"; refuses what is not portable."""
    if op == AluOp.SHR:
        assert (y >= -16).all() and (y <= 15).all()
        return np.where(y >= 0, x >> np.maximum(y, 0), wrapped(x << np.maximum(-y, 0)))
    return {AluOp.MIN: np.minimum, AluOp.MAX: np.maximum, AluOp.ADD: lambda a, b: wrapped(a + b)}[op](x, y)


def executed(steps: tuple[Step, ...], sums: np.ndarray) -> np.ndarray:
    """Steps over plane 0, int64 [channels, n] of int32 values, and plane 1 beside it."""
    planes = {0: sums, 1: np.full_like(sums, 12345)}
    for step in steps:
        at = step.plane  # type: ignore[union-attr]
        if isinstance(step, Reset):
            planes[at] = np.zeros_like(sums)
        elif isinstance(step, Immediate):
            assert -(2**15) <= step.value < 2**15
            planes[at] = alu(step.op, planes[at], np.asarray(step.value))
        elif isinstance(step, Combine):
            planes[at] = alu(step.op, planes[at], planes[step.source])
        elif isinstance(step, Vector):
            values = step.values.reshape(-1)[: len(sums), None].astype(np.int64)
            assert step.op != AluOp.SHR or (values >= 0).all()
            planes[at] = alu(step.op, planes[at], values)
    return planes[0]


def applied(found: Requantization, sums: np.ndarray) -> np.ndarray:
    add = np.broadcast_to(found.add, (len(sums),))[:, None]
    return executed((*found.shifts, *found.clamps), wrapped(sums + add))


def target(low: int = -128, high: int = 127, zero: int = 0) -> Clamped:
    return Clamped(Code(np.float32(1), zero, np.dtype(np.int8)), low, high)


SUMS = st.lists(
    st.integers(-(2**30), 2**30) | st.integers(-5000, 5000) | st.sampled_from([0, 1, -1, 2**29, -(2**30)]),
    min_size=1,
    max_size=60,
)


@settings(max_examples=400, deadline=None)
@given(
    sums=SUMS,
    bits=st.integers(-31, 30),
    rounding=st.sampled_from(["half_up", "even"]),
    low=st.integers(-128, 0),
    high=st.integers(1, 127),
    zero=st.integers(-20, 20),
)
def test_one_shift(sums: list[int], bits: int, rounding: Any, low: int, high: int, zero: int) -> None:
    values = np.array([sums])
    to = target(low, high, zero)
    found = requantization(np.asarray(bits), to, rounding, float(np.abs(values).max()), (1, 16))
    assert isinstance(found, Requantization)
    wanted = np.clip(shift(values, np.asarray(bits), to.code, rounding), low, high)
    np.testing.assert_array_equal(applied(found, values), wanted)


@settings(max_examples=200, deadline=None)
@given(bits=st.integers(1, 30), rounding=st.sampled_from(["half_up", "even"]), far=st.integers(-130, 130))
def test_ties(bits: int, rounding: Any, far: int) -> None:
    """Half a code beside a code, and the sums next to it."""
    values = np.clip(np.array([[-1, 0, 1]]) + (2 * far + 1 << bits) // 2, -(2**30), 2**30)
    found = requantization(np.asarray(bits), target(), rounding, 2.0**30, (1, 16))
    assert isinstance(found, Requantization)
    np.testing.assert_array_equal(
        applied(found, values), shift(values, np.asarray(bits), target().code, rounding)
    )


@settings(max_examples=200, deadline=None)
@given(
    sums=SUMS,
    low=st.integers(0, 15),
    bits=st.lists(st.integers(0, 15), min_size=1, max_size=20),
)
def test_a_shift_for_each_channel(sums: list[int], low: int, bits: list[int]) -> None:
    each = low + np.array(bits)
    values = np.tile(np.array(sums), (len(bits), 1))
    found = requantization(each, target(), "half_up", 2.0**30, (2, 16))
    assert isinstance(found, Requantization)
    wanted = shift(values, each[:, None], target().code, "half_up")
    np.testing.assert_array_equal(applied(found, values), wanted)


@pytest.mark.parametrize(
    ("bits", "rounding", "reason"),
    [
        ([31], "half_up", "it shifts by 31 bits, VTA by 30 at most"),
        ([3, 20], "half_up", "differ by more than 15 bits"),
        ([-1, 2], "half_up", "beyond 0 to 30"),
        ([1, 2], "even", "rounding to even"),
    ],
)
def test_refusals(bits: list[int], rounding: Any, reason: str) -> None:
    found = requantization(np.array(bits), target(), rounding, 1e6, (1, 16))
    assert isinstance(found, str) and reason in found


WRITE = Write("y", Extent(1, 1, 1, 1))


@given(
    steps=st.lists(
        st.builds(
            Immediate, st.sampled_from([AluOp.MAX, AluOp.MIN, AluOp.ADD]), st.integers(-130, 130), st.just(0)
        ),
        max_size=6,
    )
)
def test_an_idle_max_is_left_out(steps: list[Step]) -> None:
    values = np.arange(-400, 400)[None]
    *left, write = without_idle_max([*steps, WRITE])
    assert write is WRITE
    np.testing.assert_array_equal(executed(tuple(left), values), executed(tuple(steps), values))
    assert len(left) <= len(steps)


def test_clamp() -> None:
    assert [(s.op, s.value) for s in clamp(target(-5, 6, 3)) if isinstance(s, Immediate)] == [
        (AluOp.ADD, 3), (AluOp.MAX, -5), (AluOp.MIN, 6),
    ]  # fmt: skip
