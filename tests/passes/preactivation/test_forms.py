import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from optc.passes.preactivation.forms import Channels, Form, offset_form, stretch, zero_form

NUMBERS = st.floats(-100, 100, width=32) | st.sampled_from([0.0, -0.0, 1e-40, -1e-40, 1e-6])

REACHES = st.sampled_from([0.0, 0.5, 6.0, 1e4])


def value(form: Form, x: float) -> np.ndarray:
    bounded = np.minimum(np.maximum(x + form.addend, form.low), form.high)
    return form.factor * bounded + form.offset


@given(scale=NUMBERS, shift=NUMBERS, x=st.floats(-1e3, 1e3, width=32), relu=st.booleans(), reach=REACHES)
def test_both_forms_are_the_function(scale: float, shift: float, x: float, relu: bool, reach: float) -> None:
    wanted = scale * x + shift
    wanted = max(wanted, 0.0) if relu else wanted
    channels = Channels(np.array([scale, 1.0]), np.array([shift, 0.0]), relu, reach)
    for make in (zero_form, offset_form):
        form = make(channels)
        near = 1e-6 * max(abs(scale * x), abs(shift)) + 1e-40
        assert value(form, x)[0] == pytest.approx(wanted, rel=0, abs=near)
        assert not np.isnan(np.stack([form.addend, form.low, form.high, form.factor, form.offset])).any()


@given(scale=NUMBERS, shift=NUMBERS, reach=REACHES)
def test_what_the_relu_stops_is_exactly_zero(scale: float, shift: float, reach: float) -> None:
    channels = Channels(np.array([scale]), np.array([shift]), True, reach)
    x = -np.sign(scale) * 1e38
    if abs(scale) > 1e-30:
        assert value(zero_form(channels), x)[0] == 0
        assert value(offset_form(channels), x)[0] == 0


def test_the_zero_form_has_no_offset_and_the_other_no_addend() -> None:
    channels = Channels(np.array([2.0, -0.5, 0.0, 0.0]), np.array([1.0, 3.0, 4.0, -4.0]), True, 8.0)
    zero, offset = zero_form(channels), offset_form(channels)
    assert zero.addend.tolist() == [0.5, -6, 0, 0] and not zero.offset.any()
    assert zero.low.tolist() == [0, -np.inf, 8, 0] and zero.high.tolist() == [np.inf, 0, 8, np.inf]
    assert zero.factor.tolist() == [2, -0.5, 0.5, 0]
    assert not offset.addend.any() and offset.offset.tolist() == [1, 3, 4, 0]
    assert offset.low.tolist() == [-0.5, *[-np.inf] * 3] and offset.high.tolist() == [
        np.inf,
        6,
        *[np.inf] * 2,
    ]
    assert offset.factor.tolist() == [2, -0.5, 0, 0]


def test_a_channel_that_is_shut_does_not_widen_the_range() -> None:
    channels = Channels(
        np.array([1e-3, -1e-3, 1.0]), np.array([-1.0, -1.0, 0.5]), True, 6.0
    )  # at 1000, -1000
    form = offset_form(channels)
    assert form.addend.tolist() == [-1000, 1000, 0] and form.offset.tolist() == [0, 0, 0.5]
    assert (form.low[0], form.high[1], form.low[2]) == (0, 0, -0.5)
    assert stretch(channels, form) == 1


def test_stretch() -> None:
    channels = Channels(np.array([0.1, 1.0]), np.array([3.0, 0.0]), True, 6.0)
    assert stretch(channels, zero_form(channels)) == 6.0  # (6 + 30) / 6
    assert stretch(channels, offset_form(channels)) == 1.0
