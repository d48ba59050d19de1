import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from optc.passes.quantize.layers import LayerSource, Term, quantize_layer, sum_fits
from optc.passes.quantize.scales import INT32_MAX, Code

X = Code(np.float32(0.02), 128, np.dtype(np.uint8))
weights = hnp.arrays(np.float32, (3, 4), elements=st.floats(-100, 100, width=32))
biases = hnp.arrays(np.float32, (3,), elements=st.floats(-1000, 1000, width=32))


@given(weights, biases, st.booleans(), st.booleans(), st.sampled_from([None, 0.1]))
def test_weights_and_biases(
    weight: np.ndarray, bias: np.ndarray, per_channel: bool, pow2: bool, output: float | None
) -> None:
    layer = quantize_layer(LayerSource(weight, bias, 0, X, output), per_channel, pow2)
    assert layer.weight.dtype == np.int8 and layer.weight.min() >= -127
    assert layer.bias is not None and layer.bias.dtype == np.int32
    assert layer.scale.shape == ((3,) if per_channel else (1,))
    assert (layer.scale > 0).all()
    assert (layer.product == np.float32(X.scale) * layer.scale).all()
    scale = layer.scale.reshape(-1, 1).astype(np.float64)
    assert np.all(np.abs(layer.weight * scale - weight) <= scale * 0.50001 + 1e-9)
    error = np.abs(layer.bias * layer.product.astype(np.float64) - bias)
    assert np.all(error <= layer.product * 0.50001 + 1e-6 * np.abs(bias))
    worst = np.abs(layer.weight.astype(int)).sum(1) * 128 + np.abs(layer.bias.astype(int))
    assert (worst == layer.bound).all() and (worst <= INT32_MAX).all()
    if pow2:
        assert (np.frexp(layer.scale)[0] == 0.5).all()


def test_per_channel_scales_are_each_channels_own() -> None:
    weight = np.array([[127, 1], [0.5, -1.27]], np.float32)
    layer = quantize_layer(LayerSource(weight, None, 0, X, None), per_channel=True, pow2=False)
    np.testing.assert_allclose(layer.scale, [1, 0.01], rtol=1e-6)
    assert layer.weight.tolist() == [[127, 1], [50, -127]] and layer.bias is None
    other = quantize_layer(LayerSource(weight.T, None, 1, X, None), per_channel=True, pow2=False)
    assert (other.weight == layer.weight.T).all()


def test_channel_of_zeros() -> None:
    weight, bias = np.zeros((2, 3), np.float32), np.array([0, 5], np.float32)
    layer = quantize_layer(LayerSource(weight, bias, 0, X, None), per_channel=True, pow2=False)
    assert not layer.weight.any() and layer.scale[0] == 1 and layer.bias is not None
    assert layer.bias[1] * float(layer.product[1]) == pytest.approx(5, rel=1e-6)


def test_bias_beside_tiny_weights_fits_int32() -> None:
    weight, bias = np.full((1, 3), 1e-12, np.float32), np.array([100], np.float32)
    layer = quantize_layer(LayerSource(weight, bias, 0, X, None), per_channel=True, pow2=False)
    assert layer.bias is not None
    assert abs(layer.bias[0] - 2**30) <= 64
    assert layer.bias[0] * float(layer.product[0]) == pytest.approx(100, rel=1e-6)


def test_unit_is_not_far_below_the_outputs() -> None:
    weight = np.full((1, 3), 1e-12, np.float32)
    layer = quantize_layer(LayerSource(weight, None, 0, X, 0.5), per_channel=True, pow2=False)
    assert layer.product[0] == pytest.approx(0.5 * 2.0**-20, rel=1e-6)


@pytest.mark.parametrize("per_channel", [True, False])
def test_accumulator_that_could_overflow_is_coarser(per_channel: bool) -> None:
    weight = np.ones((2, 140_000), np.float32)
    weight[1] = 0
    weight[1, 0] = 1
    layer = quantize_layer(LayerSource(weight, None, 0, X, None), per_channel, pow2=False)
    assert layer.bound[0] <= INT32_MAX < 2 * layer.bound[0] * 1.02
    assert layer.weight[0, 0] == 64  # 127 * 128 * 140000 is over 2**31, half of it is not
    assert layer.weight[1, 0] == (127 if per_channel else 64)


def test_sum_of_terms() -> None:
    fine, coarse = np.full(1, 2.0**-20), np.array([1.0, 2.0**-10])
    terms = [Term(fine, np.full(1, 100)), Term(coarse, np.array([800, 800]))]
    assert sum_fits(terms).tolist() == [True, True]  # 1.25 * ((800 << 20) + 100) is below 2**30
    assert sum_fits([Term(fine, np.full(1, 100)), Term(coarse, np.array([820, 1]))]).tolist() == [
        False,
        True,
    ]
