import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from optc.passes.preactivation.forms import Form, offset_form, zero_form

NUMBERS = st.floats(-100, 100, width=32) | st.sampled_from([0.0, -0.0, 1e-40, -1e-40, 1e-6])


def value(form: Form, x: float) -> np.ndarray:
    bounded = np.minimum(np.maximum(x + form.addend, form.low), form.high)
    return form.factor * bounded + form.offset


@given(scale=NUMBERS, shift=NUMBERS, x=st.floats(-1e3, 1e3, width=32), relu=st.booleans())
def test_both_forms_are_the_function(scale: float, shift: float, x: float, relu: bool) -> None:
    wanted = scale * x + shift
    wanted = max(wanted, 0.0) if relu else wanted
    arrays = np.array([scale, 1.0]), np.array([shift, 0.0])
    for make in (zero_form, offset_form):
        form = make(*arrays, relu, np.float32)
        near = 1e-6 * max(abs(scale * x), abs(shift)) + 1e-40
        assert value(form, x)[0] == pytest.approx(wanted, rel=0, abs=near)
        assert not np.isnan(np.stack([form.addend, form.low, form.high, form.factor, form.offset])).any()


@given(scale=NUMBERS, shift=NUMBERS)
def test_what_the_relu_stops_is_exactly_zero(scale: float, shift: float) -> None:
    arrays = np.array([scale]), np.array([shift])
    x = -np.sign(scale) * 1e38
    if abs(scale) > 1e-30:
        assert value(zero_form(*arrays, True, np.float32), x)[0] == 0
        assert value(offset_form(*arrays, True, np.float32), x)[0] == 0


def test_the_zero_form_has_no_offset_and_the_other_no_addend() -> None:
    arrays = np.array([2.0, -0.5, 0.0, 0.0]), np.array([1.0, 3.0, 4.0, -4.0])
    zero, offset = (make(*arrays, True, np.float32) for make in (zero_form, offset_form))
    assert zero.addend.tolist() == [0.5, -6, 0, 0] and not zero.offset.any()
    assert zero.low.tolist() == [0, -np.inf, 4, 0] and zero.high.tolist() == [np.inf, 0, 4, np.inf]
    assert zero.factor.tolist() == [2, -0.5, 1, 0]
    assert not offset.addend.any() and offset.offset.tolist() == [1, 3, 4, 0]
    assert offset.low.tolist() == [-0.5, *[-np.inf] * 3] and offset.high.tolist() == [
        np.inf,
        6,
        *[np.inf] * 2,
    ]
    assert offset.factor.tolist() == [2, -0.5, 0, 0]
