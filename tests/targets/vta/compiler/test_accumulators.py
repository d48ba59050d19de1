"""Layers whose accumulators leave VTA, for the host to end: scales and types that VTA has no form of."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from qdq import Qdq, codes, feeds
from regions_of import SMALL, TINY, assert_ended_by_host, assert_equal, assert_offloaded, compiled

from optc.models.model import Model
from optc.targets.vta.compiler.values import Wide, image_layout, matrix_layout
from optc.targets.vta.config import Config


def scaled(net: Qdq, value: str, scale: float, dtype: Any = np.int8) -> str:
    """`value` through Q and DQ of any scale."""
    constants = [net.constant(scale, np.float32), net.constant(0, dtype)]
    return net.node("DequantizeLinear", [net.node("QuantizeLinear", [value, *constants]), *constants])


def convolution(most: int, channels: int = 18, out: int = 20) -> tuple[Qdq, str]:
    net = Qdq()
    weight = codes(np.random.default_rng(5), (out, channels, 3, 3), most)
    return net, net.layer("Conv", net.input((1, channels, 6, 7)), weight, -8, pads=[1, 1, 1, 1])


def test_a_result_that_is_float() -> None:
    net, value = convolution(127)
    assert_ended_by_host(net.model(value), "its result is float")


def test_scales_that_are_no_powers_of_two() -> None:
    net, value = convolution(127)
    assert_ended_by_host(net.model(scaled(net, value, 0.7)), "its scales are not powers of two")


def test_codes_of_another_type() -> None:
    net, value = convolution(127)
    value = net.node("Relu", [value])
    assert_ended_by_host(net.model(scaled(net, value, 4.0, np.uint8)), "it writes codes of uint8")


def test_a_bias_that_is_no_integer() -> None:
    net = Qdq()
    bias = net.constant(np.linspace(-1, 1, 20) / 3, np.float32)
    weight = net.weight(codes(np.random.default_rng(5), (20, 18, 1, 1)), -8)
    value = net.node("Conv", [net.input((1, 18, 6, 7)), weight, bias])
    assert_ended_by_host(net.model(net.code(value, 0)), "its bias is no integer")


@settings(max_examples=40, deadline=None)
@given(
    most=st.sampled_from([0, 1, 3, 127]),
    channels=st.sampled_from([1, 3, 16, 40, 200]),
    out=st.integers(1, 50),
    bias=st.sampled_from([0, 0, 100, 2**14, 2**22, 2**30]),
    config=st.sampled_from([None, SMALL, TINY]),
)
def test_accumulators_of_one_to_four_bytes(
    most: int, channels: int, out: int, bias: int, config: Any
) -> None:
    net = Qdq()
    rng = np.random.default_rng(channels)
    weight = codes(rng, (out, channels, 1, 1), most)
    added = rng.integers(-bias, bias + 1, out).astype(np.int32) if bias else None
    model = net.model(net.layer("Conv", net.input((1, channels, 5, 9)), weight, -8, added))
    assert_offloaded(model, feeds(model), config)


def test_a_sum_that_the_host_adds() -> None:
    """Its scales are free: both layers give their accumulators, a region each or one of both."""
    net = Qdq()
    x = net.input((1, 16, 5, 5))
    rng = np.random.default_rng(1)
    layers = [net.layer("Conv", x, codes(rng, (16, 16, 1, 1)), -9) for _ in range(2)]
    model = net.model(scaled(net, net.node("Add", layers), 0.3))
    found = compiled(model)
    assert_equal(found, feeds(model))
    assert found.ops == {"Layer"}
    assert "its sum is the host's" in found.taken.ended.values()
    assert any("not powers of two" in r for r in found.taken.reasons.values())


def test_a_float_result_on_the_way_separates() -> None:
    """Layer -> float -> codes -> layer: the second one waits for the host."""
    net, value = convolution(1, out=18)
    value = scaled(net, value, 2.5)
    value = scaled(net, net.node("Erf", [value]), 0.01)
    model = net.model(net.layer("Conv", value, codes(np.random.default_rng(2), (8, 18, 1, 1)), -3))
    found = assert_equal_of(model)
    assert len(found.taken.regions) == 2


def assert_equal_of(model: Model) -> Any:
    found = compiled(model)
    assert_equal(found, feeds(model))
    return found


@pytest.mark.parametrize("layout", [image_layout, matrix_layout])
@settings(max_examples=30, deadline=None)
@given(
    shape=st.tuples(st.integers(1, 2), st.integers(1, 20), st.integers(1, 4), st.integers(1, 20)),
    planes=st.integers(1, 4),
)
def test_wide_values(layout: Any, shape: tuple[int, ...], planes: int) -> None:
    """Bytes, all blocks of one and then of the next, are the values again."""
    config, form = Config(), layout(shape)
    half = 1 << (8 * planes - 1)
    values = np.random.default_rng(0).integers(-half, half, shape).astype(np.int32)
    values.reshape(-1)[0] = -half
    parts = [form.pack((values >> 8 * k).astype(np.int8), config) for k in range(planes)]
    extent = form.extent(config)
    data = np.concatenate([p.reshape(extent.images, -1) for p in parts], axis=1)
    wide = Wide(form, planes)
    assert wide.extent(config).elements * config.block == data.size
    np.testing.assert_array_equal(wide.unpack(data, config), values)
