"""Layers that meet in the accumulator of an Add, with power-of-two scales."""

import numpy as np
import onnx
import pytest

from optc.models.errors import InputError
from optc.models.model import Model
from optc.passes.quantize.layers import Layer, Term, sum_fits
from optc.passes.quantize.plan import plan_layers
from optc.passes.quantize.region import find_region
from optc.passes.quantize.scales import Code

TEXT = """
<ir_version: 10, opset_import: ["" : 21]>
g (float[N,4,8,8] x, float[N,4,8,8] z) => (float[N,4,8,8] y)
{ a = Conv (x, w) b = Conv (z, v) y = Add (a, b) }
"""


def planned(weight: np.ndarray, other: np.ndarray, per_channel: bool = True) -> list[Layer]:
    proto = onnx.parser.parse_model(TEXT)
    for name, values in (("w", weight), ("v", other)):
        proto.graph.initializer.append(onnx.numpy_helper.from_array(values.astype(np.float32), name))
    region = find_region(Model(proto), accumulators=True)
    assert [t.name for t in region.coded] == ["x", "z", "y"]
    scales = {"x": 2.0**-6, "z": 2.0**-6, "y": 2.0**-4}
    codes = {id(t): Code(np.float32(scales[t.name]), 0, np.dtype(np.int8)) for t in region.coded}
    layers = plan_layers(region, codes, per_channel, pow2=True)
    return [layers[id(u)] for u in region.units if u.weight is not None]


def fits(layers: list[Layer]) -> bool:
    return bool(sum_fits([Term(layer.product, layer.bound) for layer in layers]).all())


@pytest.mark.parametrize("per_channel", [True, False])
def test_finest_layer_is_coarsened_until_the_sum_fits(per_channel: bool) -> None:
    large, small = np.full((4, 4, 1, 1), 100.0), np.full((4, 4, 1, 1), 1e-3)
    small[0] = large[0]
    a, b = planned(large, small, per_channel)
    assert fits([a, b])
    assert a.scale[0] == 1 and a.weight.max() == 100
    if per_channel:
        assert b.scale[0] == 1 and b.weight[0].max() == 100
        # acc of a: 100 * 4 * 128 in units 2**14 times larger is just below 2**30
        assert (b.product[1:] == a.product[1:] * 2.0**-14).all()
    assert np.frexp(b.scale)[0].tolist() == [0.5] * b.scale.size


def test_layers_of_like_scale_are_left_alone() -> None:
    rng = np.random.default_rng(0)
    weight, other = rng.standard_normal((2, 4, 4, 1, 1))
    for layer, values in zip(planned(weight, other), (weight, other), strict=True):
        wanted = 2 ** np.ceil(np.log2(np.abs(values).max(axis=(1, 2, 3)) / 127))
        assert (layer.scale == wanted).all()


def test_units_are_not_far_below_the_sums() -> None:
    tiny = np.full((4, 4, 1, 1), 1e-12)
    for layer in planned(tiny, tiny):
        assert layer.product.tolist() == [2.0**-24] * 4  # 2**-20 of the scale of y


def test_sum_that_cannot_fit_is_refused() -> None:
    proto = onnx.parser.parse_model(TEXT.replace("b = Conv (z, v) y = Add (a, b)", "[sum] y = Add (a, z)"))
    weight = np.ones((4, 4, 1, 1), np.float32)
    proto.graph.initializer.append(onnx.numpy_helper.from_array(weight, "w"))
    region = find_region(Model(proto), accumulators=True)
    scales = {"x": 2.0**-6, "z": 2.0**-60, "y": 2.0**-4}
    codes = {id(t): Code(np.float32(scales[t.name]), 0, np.dtype(np.int8)) for t in region.coded}
    with pytest.raises(InputError, match="could overflow int32; use residual=code") as caught:
        plan_layers(region, codes, per_channel=True, pow2=True)
    assert caught.value.node == "sum"
