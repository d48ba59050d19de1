import numpy as np
import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from optc.passes.quantize.scales import Code, activation_code, power_of_two

INT8, UINT8 = np.dtype(np.int8), np.dtype(np.uint8)
ends = st.floats(-1e6, 1e6, width=32).filter(lambda x: x == 0 or abs(x) > 1e-6)
dtypes = st.sampled_from([INT8, UINT8])


@given(ends, ends, dtypes, st.booleans(), st.floats(0, 1))
def test_codes_hold_the_range(a: float, b: float, dtype: np.dtype, pow2: bool, at: float) -> None:
    low, high = min(a, b), max(a, b)
    code = activation_code(low, high, dtype, pow2)
    assert code.limits[0] <= code.zero_point <= code.limits[1]
    assert code.dequantize(code.quantize(np.zeros(1, np.float32)))[0] == 0
    x = np.array([low, high, low + at * (high - low)], np.float32)
    q = code.quantize(x)
    assert q.dtype == dtype
    step = float(code.scale)
    assert np.all(np.abs(code.dequantize(q).astype(np.float64) - x) <= step / 2 + 1e-6 * np.abs(x).max())


@given(ends, ends, dtypes)
def test_powers_of_two(a: float, b: float, dtype: np.dtype) -> None:
    code = activation_code(min(a, b), max(a, b), dtype, pow2=True)
    assert np.frexp(code.scale)[0] == 0.5
    assert code.zero_point in ((0, 128) if dtype == UINT8 else (0,))
    free = activation_code(-max(abs(a), abs(b)), max(abs(a), abs(b)), INT8, pow2=False)
    if dtype == INT8:
        assert free.scale <= code.scale * np.float32(1.000001)
        assert code.scale <= 2 * free.scale or free.scale == 1


@given(ends, ends)
def test_uint8_with_powers_of_two_is_the_int8_code_moved(a: float, b: float) -> None:
    low, high = min(a, b), max(a, b)
    assume(low < 0)
    signed = activation_code(low, high, INT8, pow2=True)
    moved = activation_code(low, high, UINT8, pow2=True)
    x = np.linspace(low, high, 50, dtype=np.float32)
    assert (moved.quantize(x).astype(int) - 128 == signed.quantize(x)).all()


def test_free_int8_is_symmetric_and_uint8_spans_the_range() -> None:
    assert activation_code(-1, 2, INT8, False) == Code(np.float32(2 / 127), 0, INT8)
    assert activation_code(-1, 2, UINT8, False) == Code(np.float32(3 / 255), 85, UINT8)
    assert activation_code(1, 2, UINT8, False) == Code(activation_code(0, 2, UINT8, False).scale, 0, UINT8)


@given(st.floats(2**-10, 2**10, width=32))
def test_codes_from_zero_do_not_pass_the_end(high: float) -> None:
    code = activation_code(0.0, high, UINT8, pow2=False)
    assert code.dequantize(np.array(255)) <= np.float32(high)
    assert code.dequantize(np.array(255)) >= np.float32(high) * np.float32(1 - 1e-6)


@pytest.mark.parametrize("pow2", [False, True])
@pytest.mark.parametrize("dtype", [INT8, UINT8])
def test_always_zero_and_extremes(dtype: np.dtype, pow2: bool) -> None:
    assert activation_code(0, 0, dtype, pow2) == Code(np.float32(1), 0, dtype)
    assert activation_code(0, 1e-30, dtype, pow2).scale == np.float32(2.0**-63)
    assert activation_code(0, 1e30, dtype, pow2).scale == np.float32(2.0**63)


def test_power_of_two_is_the_next() -> None:
    assert power_of_two(np.array([0.0, 0.25, 0.26, 1.0, 1.0001])).tolist() == [0, 0.25, 0.5, 1, 2]
