"""Sums of codes and of accumulators with unequal scales, and operations channel by channel."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from qdq import Qdq, codes, feeds
from regions_of import PAIRS, SMALL, TINY, assert_equal, assert_offloaded, compiled

from optc.models.model import Model


def codes_added(
    exponents: tuple[int, int], out: int, shape: tuple[int, ...] = (1, 20, 5, 5), rounding: str = "half_up"
) -> Model:
    """Two inputs of these exponents, added."""
    net = Qdq(rounding)
    total = net.node("Add", [net.input(shape, e) for e in exponents])
    return net.model(net.code(net.node("Relu", [total]), out))


def residual(
    layers: list[Any],
    code: int | None,
    out: int,
    rounding: str = "half_up",
    bias: int = 3000,
    flip: bool = False,
) -> Model:
    """The sum of a 1x1 convolution of weight exponents `layers[0]` and a code, or of two convolutions."""
    rng = np.random.default_rng(11)
    net = Qdq(rounding)
    x = net.input((1, 20, 5, 6))
    parts = []
    for exponent in layers[: 1 if code is not None else 2]:
        offset = rng.integers(-bias, bias + 1, 20).astype(np.int32)
        parts.append(net.layer("Conv", x, codes(rng, (20, 20, 1, 1), 30), exponent, offset))
    if code is not None:
        parts.append(net.input((1, 20, 5, 6), code))
    return net.model(net.code(net.node("Add", parts[::-1] if flip else parts), out))


@pytest.mark.parametrize("rounding", ["half_up", "even"])
@pytest.mark.parametrize("gap", range(13))
def test_two_codes(gap: int, rounding: str) -> None:
    for out in (0, 1, -gap, gap):
        model = codes_added((0, -gap), out, rounding=rounding)
        assert_offloaded(model, feeds(model))


@pytest.mark.parametrize("rounding", ["half_up", "even"])
@pytest.mark.parametrize("gap", range(13))
def test_an_accumulator_and_a_code(gap: int, rounding: str) -> None:
    for bits in (0, 5, 9):
        model = residual([-gap], 0, bits - gap, rounding)
        assert_offloaded(model, feeds(model))


@settings(max_examples=60, deadline=None)
@given(
    layers=st.lists(st.integers(-12, -2), min_size=2, max_size=2),
    code=st.none() | st.integers(-4, 2),
    out=st.integers(-3, 3),
    rounding=st.sampled_from(["even", "half_up"]),
    bias=st.sampled_from([1, 4000, 2**22]),
    flip=st.booleans(),
    config=st.sampled_from([None, SMALL, TINY, PAIRS]),
)
def test_drawn_residuals(
    layers: list[int], code: int | None, out: int, rounding: str, bias: int, flip: bool, config: Any
) -> None:
    """Equal to the reference where VTA takes them; what is refused has a reason that names scales or size."""
    model = residual(layers, code, out, rounding, bias, flip)
    found = compiled(model, config)
    reasons = set(found.taken.reasons.values()) - {"it lies between float and integer"}
    assert all("overflow" in r or "too far apart" in r or "shifts by" in r for r in reasons), reasons
    assert_equal(found, feeds(model))


@settings(max_examples=20, deadline=None)
@given(seed=st.integers(0, 1000), spread=st.integers(0, 5), code=st.none() | st.integers(-2, 1))
def test_residuals_with_scales_by_channel(seed: int, spread: int, code: int | None) -> None:
    rng = np.random.default_rng(seed)
    layers = [-8 + rng.integers(0, spread + 1, 20) for _ in range(2)]
    model = residual(layers, code, 0)
    found = compiled(model)
    reasons = set(found.taken.reasons.values()) - {"it lies between float and integer"}
    assert all("too far apart" in r or "differ by" in r for r in reasons), reasons
    assert_equal(found, feeds(model))


@pytest.mark.parametrize("kept", [0, 16])
def test_scales_by_channel_where_the_last_blocks_are_zero(kept: int) -> None:
    rng = np.random.default_rng(0)
    net = Qdq()
    x = net.input((1, 20, 4, 4))
    weight = codes(rng, (20, 20, 1, 1), 20)
    weight[kept:] = 0
    exponents = -8 + rng.integers(0, 3, 20)
    layers = [
        net.layer("Conv", x, w, exponents - n) for n, w in enumerate((weight, codes(rng, weight.shape, 20)))
    ]
    model = net.model(net.code(net.node("Add", layers), 0))
    assert_offloaded(model, feeds(model))


def test_a_value_added_to_itself() -> None:
    net = Qdq()
    x = net.input((1, 20, 3, 3))
    model = net.model(net.code(net.node("Add", [x, x]), 1))
    assert_offloaded(model, feeds(model))


@pytest.mark.parametrize("other", [(1, 20, 1, 1), (1, 20, 5, 1), (1, 20, 1, 6)])
def test_one_value_spread_over_places(other: tuple[int, ...]) -> None:
    net = Qdq()
    total = net.node("Add", [net.input((1, 20, 5, 6)), net.input(other, -1)])
    model = net.model(net.code(total, 0))
    assert_offloaded(model, feeds(model))


@pytest.mark.parametrize("other", [(1, 1, 5, 6), (20, 5, 6)])
def test_a_value_spread_over_channels_stays_on_the_host(other: tuple[int, ...]) -> None:
    net = Qdq()
    total = net.node("Add", [net.input((1, 20, 5, 6)), net.input(other)])
    found = compiled(net.model(net.code(total, 0)))
    assert not found.taken.regions


@pytest.mark.parametrize("shape", [(1, 20), (4, 20), (1, 7, 20), (2, 3, 7, 20), (3, 20, 5, 5)])
@pytest.mark.parametrize("config", [None, SMALL, PAIRS], ids=["default", "small", "pairs"])
def test_shapes(shape: tuple[int, ...], config: Any) -> None:
    model = codes_added((0, -3), 1, shape)
    assert_offloaded(model, feeds(model), config)


@pytest.mark.parametrize("scales", [(0, 0), (0, 3), (0, -3)])
def test_relu_by_itself(scales: tuple[int, int]) -> None:
    net = Qdq()
    model = net.model(net.code(net.node("Relu", [net.input((1, 20, 4, 4), scales[0])]), scales[1]))
    assert_offloaded(model, feeds(model))


def channelwise(ops: list[str], behind_layer: bool, twice: bool, dtype: Any = np.int8) -> Model:
    """Add, Max, Min by constants of each channel, and a Relu; `twice`: the layer's code is an output, too."""
    rng = np.random.default_rng(4)
    net = Qdq()
    value = net.input((1, 20, 5, 5))
    if behind_layer:
        value = net.code(net.layer("Conv", value, codes(rng, (20, 20, 1, 1)), -9), 0)
    layer = value
    for op in ops:
        if op == "Relu":
            value = net.node("Relu", [value])
            continue
        top = 400 if dtype == np.int32 and op == "Add" else 100
        constant = rng.integers(-top, top, (20, 1, 1))
        value = net.node(op, [value, net.weight(constant, 0, dtype=dtype if op == "Add" else np.int8)])
    out = net.code(value, 0)
    read = net.code(net.layer("Conv", out, codes(rng, (8, 20, 1, 1)), -9), 0)
    return net.model(*([read, layer] if twice else [read]))


@pytest.mark.parametrize("twice", [False, True])
@pytest.mark.parametrize("behind_layer", [False, True])
@pytest.mark.parametrize("dtype", [np.int8, np.int32])
@pytest.mark.parametrize("ops", [["Add"], ["Max"], ["Min"], ["Add", "Relu"], ["Add", "Max", "Min"]], ids=str)
def test_channel_by_channel(ops: list[str], dtype: Any, behind_layer: bool, twice: bool) -> None:
    model = channelwise(ops, behind_layer, twice, dtype)
    found = assert_offloaded(model, feeds(model))
    assert "Channelwise" in found.ops
