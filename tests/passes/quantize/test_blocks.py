import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from optc.passes.quantize.blocks import (
    Grid,
    Scales,
    Type,
    dequantized,
    fitted_scales,
    nearest_scales,
    quantized,
)

TYPES = [Type(bits, symmetric) for bits in (8, 4) for symmetric in (True, False)]


@st.composite
def weights(draw: st.DrawFn) -> tuple[np.ndarray, Grid]:
    rank = draw(st.integers(2, 4))
    shape = tuple(draw(st.integers(1, 9)) for _ in range(rank))
    channel, summed = draw(st.sampled_from([(0, 1), (1, 0), (rank - 1, rank - 2)]))
    floats = st.floats(-(2.0**120), 2.0**120, width=32)
    values = draw(arrays(np.float32, shape, elements=floats))
    return values, Grid(channel, summed, draw(st.none() | st.integers(2, 10)))


@given(weights(), st.sampled_from(TYPES))
def test_no_weight_is_off_by_more_than_half_a_step(drawn: tuple[np.ndarray, Grid], type: Type) -> None:
    values, grid = drawn
    scales = nearest_scales(values, grid, type)
    assert (scales.scale > 0).all()
    assert scales.scale.dtype == np.float32
    codes = quantized(values, scales, grid, type)
    assert np.array_equal(codes.astype(type.dtype).astype(np.float64), codes)  # they fit the type
    scale = grid.spread(scales.scale.astype(np.float64), values.shape)
    zero = grid.spread(scales.zero.astype(np.float64), values.shape)
    exact = (codes - zero) * scale
    step = scale * (1 + 2**-20)  # a range of 255 steps, whose float32 scale was rounded down
    assert (np.abs(values - exact) <= step / 2).all()


@given(weights(), st.sampled_from(TYPES))
def test_zero_stays_zero(drawn: tuple[np.ndarray, Grid], type: Type) -> None:
    values, grid = drawn
    values[values.shape[0] // 2] = 0
    scales = nearest_scales(values, grid, type)
    found = dequantized(quantized(values, scales, grid, type), scales, grid)
    assert (found[values == 0] == 0).all()


@given(weights())
def test_shapes_of_scales(drawn: tuple[np.ndarray, Grid]) -> None:
    values, grid = drawn
    scale = nearest_scales(values, grid, TYPES[0]).scale
    if grid.block is None:
        assert scale.shape == (values.shape[grid.channel],)
    else:
        wanted = list(values.shape)
        wanted[grid.summed] = -(-wanted[grid.summed] // grid.block)
        assert scale.shape == tuple(wanted)
    assert grid.spread(scale, values.shape).shape == values.shape


def test_the_last_block_is_shorter() -> None:
    values = np.array([[1.2], [2.0], [7.0], [14.0], [3.5]], np.float32)
    scales = nearest_scales(values, Grid(1, 0, 2), Type(4, True))
    assert scales.scale[:, 0].tolist() == pytest.approx([2 / 7, 2.0, 0.5])
    codes = quantized(values, scales, Grid(1, 0, 2), Type(4, True))
    assert codes[:, 0].tolist() == [4, 7, 4, 7, 7]


def test_a_block_of_zeros_has_scale_1() -> None:
    values = np.zeros((4, 3), np.float32)
    for type in TYPES:
        scales = nearest_scales(values, Grid(1, 0, 2), type)
        assert (scales.scale == 1).all()
        assert (scales.zero == 0).all()


def test_unsigned_codes_span_the_range() -> None:
    values = np.array([[-1.0, 0.5, 2.0]], np.float32)
    scales = nearest_scales(values, Grid(0, 1, None), Type(4, False))
    assert scales.scale.tolist() == pytest.approx([0.2])
    assert scales.zero.tolist() == [5]
    assert quantized(values, scales, Grid(0, 1, None), Type(4, False)).tolist() == [[0, 7, 15]]


@pytest.mark.parametrize("block", [None, 16])
@pytest.mark.parametrize("type", TYPES[2:])
def test_fitted_scales_have_less_error(type: Type, block: int | None) -> None:
    rng = np.random.default_rng(0)
    values = rng.standard_t(3, (64, 8)).astype(np.float32)
    importance = rng.random((64, 1)) ** 4
    grid = Grid(1, 0, block)

    def error(scales: Scales) -> np.ndarray:
        found = dequantized(quantized(values, scales, grid, type), scales, grid)
        return grid.reduced(np.add, importance * np.square(found - values))

    nearest, fitted = (
        error(nearest_scales(values, grid, type)),
        error(fitted_scales(values, importance, grid, type)),
    )
    assert (fitted <= nearest * (1 + 1e-6)).all()
    assert fitted.sum() < 0.95 * nearest.sum()
