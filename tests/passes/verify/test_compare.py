"""Differences of outputs, and what each contract allows."""

from __future__ import annotations

import math

import ml_dtypes
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from optc.passes.base import Contract, Exact, Lossy
from optc.passes.verify.compare import Difference, compare

EXACT, LOSSY = Exact(), Lossy("precision")


def one(a: object, b: object, contract: Contract = EXACT) -> Difference:
    (difference,) = compare({"y": np.asarray(a)}, {"y": np.asarray(b)}, contract)
    return difference


def f32(*values: float) -> np.ndarray:
    return np.array(values, np.float32)


def test_error_and_snr() -> None:
    got = one(f32(3, 4), f32(3, 4.5), LOSSY)
    assert got.max_error == 0.5
    assert got.snr_db == pytest.approx(10 * math.log10(25 / 0.25))
    assert got.broken is None


def test_nothing_moved() -> None:
    got = one(f32(1, 2), f32(1, 2))
    assert (got.max_error, got.snr_db, got.broken) == (0.0, math.inf, None)


def test_floats_stay_within_the_tolerance_of_their_dtype() -> None:
    assert one(f32(1.0), f32(1.0 + 1e-4)).broken is None
    assert "moved by 0.001 where 0.00011 is allowed (1 of 2 float32 values)" in str(
        one(f32(1.0, 0.5), f32(1.001, 0.5)).broken
    )
    assert one(np.float16([1.0]), np.float16([1.01])).broken is None
    assert one(np.float64([1.0]), np.float64([1 + 1e-6])).broken


def test_bfloat16_has_a_tolerance_and_float8_none() -> None:
    a = np.array([1.0, 2.0], ml_dtypes.bfloat16)
    assert one(a, np.array([1.0, 2.03], ml_dtypes.bfloat16)).broken is None
    b = np.array([1.0, 2.0], ml_dtypes.float8_e4m3fn)
    assert one(b, b).broken is None
    assert one(b, np.array([1.0, 2.25], ml_dtypes.float8_e4m3fn)).broken


def test_integers_and_strings_are_equal_or_broken() -> None:
    assert one(np.int32([1, 2]), np.int32([1, 3])).broken
    assert one(np.int32([1, 2]), np.int32([1, 3]), LOSSY).broken is None
    assert one(np.array(["a"], object), np.array(["a"], object)).broken is None
    assert one(np.array(["a"], object), np.array(["b"], object)).broken == "differs"
    assert one(np.array([True]), np.array([False])).max_error == 1


def test_nan_equals_nan_and_infinity_itself() -> None:
    got = one(f32(math.nan, math.inf, 1), f32(math.nan, math.inf, 1))
    assert (got.max_error, got.snr_db, got.broken) == (0.0, math.inf, None)
    assert one(f32(math.inf), f32(-math.inf)).max_error == math.inf
    assert one(f32(math.inf), f32(1.0)).broken


@pytest.mark.parametrize("contract", [EXACT, LOSSY])
def test_what_no_contract_allows(contract: Contract) -> None:
    assert one(f32(1), f32(math.nan), contract).broken == "holds NaN where there was none"
    assert one(f32(1), f32(1).astype(np.float64), contract).broken == "is float64, was float32"
    assert one(f32(1), f32(1, 2), contract).broken == "has shape [2], had [1]"
    renamed = compare({"y": f32(1)}, {"z": f32(1)}, contract)
    assert [(d.output, d.broken) for d in renamed] == [("y", "is missing"), ("z", "is new")]


def test_sequences_and_absent_values() -> None:
    (got,) = compare({"y": [f32(1), f32(2)]}, {"y": [f32(1), f32(3)]}, LOSSY)
    assert (got.max_error, got.signal, got.noise) == (1.0, 5.0, 1.0)
    (got,) = compare({"y": [f32(1)]}, {"y": [f32(1), f32(3)]}, LOSSY)
    assert got.broken == "is a sequence of another length"
    (got,) = compare({"y": None}, {"y": None}, EXACT)
    assert got.broken is None


def test_a_signal_of_zero() -> None:
    assert one(f32(0), f32(1), LOSSY).snr_db == -math.inf


def test_batches_add_up() -> None:
    total = one(f32(3), f32(4), LOSSY)
    total.add(one(f32(4), f32(4), LOSSY))
    assert (total.max_error, total.signal, total.noise) == (1.0, 25.0, 1.0)


arrays = hnp.arrays(np.float32, st.integers(1, 8), elements=st.floats(-1e6, 1e6, width=32))


@given(arrays)
def test_a_model_equals_itself(a: np.ndarray) -> None:
    got = one(a, a.copy())
    assert (got.max_error, got.snr_db, got.broken) == (0.0, math.inf, None)


@given(arrays, st.floats(0, 1e6, width=32))
def test_exact_is_the_stated_bound(a: np.ndarray, shift: float) -> None:
    b = a + np.float32(shift)
    x, y = a.astype(np.float64), b.astype(np.float64)
    allowed = 1e-5 * np.abs(x).max() + 1e-4 * np.abs(x)
    assert (one(a, b).broken is None) == bool((np.abs(x - y) <= allowed).all())
