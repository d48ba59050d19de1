"""Shifts of every size, rounding, biases of every size, limits; zero blocks of weights."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st
from qdq import Qdq, codes, feeds
from regions_of import SMALL, assert_ended_by_host, assert_offloaded, compiled

from optc.models.model import Model

CHANNELS = 20


def layer(
    exponent: Any,
    rounding: str = "half_up",
    bias: Any = None,
    most: int = 127,
    activation: str = "",
    bounds: tuple[float, float] = (-3.0, 6.0),
    out: int = 0,
) -> Model:
    """A 1x1 convolution; shifts to the right by `out - exponent` bits."""
    net = Qdq(rounding)
    weight = codes(np.random.default_rng(5), (CHANNELS, 18, 1, 1), most)
    offset = None if bias is None else np.broadcast_to(np.asarray(bias, np.int32), CHANNELS)
    value = net.layer("Conv", net.input((1, 18, 5, 5)), weight, exponent, offset)
    if activation == "Clip":
        value = net.node("Clip", [value, *(net.constant(b, np.float32) for b in bounds)])
    elif activation:
        value = net.node(activation, [value])
    return net.model(net.code(value, out))


@pytest.mark.parametrize("rounding", ["half_up", "even"])
@pytest.mark.parametrize("bits", range(-31, 25))
def test_a_shift(bits: int, rounding: str) -> None:
    """By every number of bits; small sums, so that ties come up and shifts to the left matter."""
    model = layer(-bits, rounding, most=1 if bits < 4 else 127)
    assert_offloaded(model, feeds(model))


@pytest.mark.parametrize("rounding", ["half_up", "even"])
@pytest.mark.parametrize("bits", [1, 2, 3, 15, 16, 20])
def test_ties(bits: int, rounding: str) -> None:
    """Sums that are exact ties: odd multiples of half a code, by the bias alone."""
    bias = (np.arange(CHANNELS) - 10) * 2 + 1 << bits - 1
    model = layer(-bits, rounding, bias, most=0)
    assert_offloaded(model, feeds(model))


def test_no_shift_of_more_than_30_bits() -> None:
    assert_ended_by_host(layer(-31), "shifts by 31 bits")


BIASES = [1, -1, 126, 127, 128, 1904, 16129, 241_935, 241_936, 242_000, 483_870, 483_871, 2**22, 2**30 - 1]


@pytest.mark.parametrize("bias", [*BIASES, *(-b for b in BIASES)])
def test_a_bias(bias: int) -> None:
    """Around what one GEMM step and two can add, and beyond; the rounding term comes on top."""
    bits = max(1, int(abs(bias)).bit_length() - 5)
    model = layer(-bits, bias=bias)
    assert_offloaded(model, feeds(model))


@settings(max_examples=30, deadline=None)
@given(
    bias=st.lists(st.integers(-(2**29), 2**29), min_size=CHANNELS, max_size=CHANNELS),
    bits=st.integers(-3, 24),
    rounding=st.sampled_from(["even", "half_up"]),
    config=st.sampled_from([None, SMALL]),
)
def test_drawn_biases(bias: list[int], bits: int, rounding: str, config: Any) -> None:
    model = layer(-bits, rounding, bias)
    assert_offloaded(model, feeds(model), config)


def test_a_rounding_term_that_could_overflow() -> None:
    """The sum fits int32, with half a code on top it would not: on the host, which has more bits."""
    assert_ended_by_host(
        layer(-14, bias=2**31 - 1 - 18 * 128 - 4000, most=1), "overflow int32 with the rounding"
    )


@pytest.mark.parametrize(
    ("low", "high"), [(0, 6), (-3, 6), (-0.25, 0.25), (0, 1000), (-1000, 3), (5, 7), (-7, -5)]
)
def test_clip(low: float, high: float) -> None:
    for out in (0, -3):
        model = layer(-8, activation="Clip", bounds=(low, high), out=out)
        assert_offloaded(model, feeds(model))


@pytest.mark.parametrize("rounding", ["half_up", "even"])
def test_relu(rounding: str) -> None:
    model = layer(-8, rounding, activation="Relu")
    assert_offloaded(model, feeds(model))


@settings(max_examples=40, deadline=None)
@given(
    low=st.integers(-22, -3), spread=st.integers(0, 15), bias=st.integers(0, 2**20), seed=st.integers(0, 99)
)
def test_shifts_by_channel(low: int, spread: int, bias: int, seed: int) -> None:
    exponents = low + np.random.default_rng(seed).integers(0, spread + 1, CHANNELS)
    model = layer(np.minimum(exponents, 0), bias=np.arange(-10, 10) * bias // 10)
    assert_offloaded(model, feeds(model))


@pytest.mark.parametrize(
    ("exponents", "rounding", "reason"),
    [
        ([-4, 2], "half_up", "beyond 0 to 30"),
        ([-4, -31], "half_up", "beyond 0 to 30"),
        ([-4, -20], "half_up", "differ by more than 15 bits"),
        ([-4, -5], "even", "rounding to even"),
    ],
)
def test_shifts_by_channel_that_vta_has_not(exponents: list[int], rounding: str, reason: str) -> None:
    assert_ended_by_host(layer(np.resize(exponents, CHANNELS), rounding), reason)


@pytest.mark.parametrize(("dtype", "zero", "reason"), [(np.uint8, 0, "int8"), (np.int8, 3, "zero point 3")])
def test_codes_that_vta_has_not(dtype: Any, zero: int, reason: str) -> None:
    net = Qdq(dtype=dtype, zero=zero)
    value = net.layer("Conv", net.input((1, 4, 3, 3)), np.ones((4, 4, 1, 1), np.int8), -3)
    found = compiled(net.model(net.code(value, 0)))
    assert not found.taken.regions
    assert any(reason in r for r in found.taken.reasons.values()), found.taken.reasons


def sparse(keep: np.ndarray, kernel: int, bias: int, config_block: int = 16) -> Model:
    """A convolution whose weight blocks are zero where `keep`, bool [out blocks, in blocks], is not set."""
    out, blocks = keep.shape
    weight = codes(np.random.default_rng(2), (out * config_block, blocks * config_block, kernel, kernel))
    weight = weight * np.kron(keep, np.ones((config_block, config_block), np.int8))[:, :, None, None]
    net = Qdq()
    offset = np.full(len(weight), bias, np.int32) if bias else None
    value = net.layer("Conv", net.input((1, blocks * config_block, 5, 6)), weight.astype(np.int8), -9, offset)
    return net.model(net.code(net.node("Relu", [value]), 0))


@settings(max_examples=25, deadline=None)
@example(keep=[[True, True, True], [True, False, True]], kernel=1, bias=0, config=None)  # other sources
@given(
    keep=st.integers(1, 4).flatmap(
        lambda w: st.lists(st.lists(st.booleans(), min_size=w, max_size=w), min_size=1, max_size=4)
    ),
    kernel=st.sampled_from([1, 3]),
    bias=st.sampled_from([0, 500]),
    config=st.sampled_from([None, SMALL]),
)
def test_zero_blocks(keep: list[list[bool]], kernel: int, bias: int, config: Any) -> None:
    model = sparse(np.array(keep), kernel, bias)
    assert_offloaded(model, feeds(model), config)


@pytest.mark.parametrize("bias", [0, 500])
def test_nothing_but_zeros(bias: int) -> None:
    model = sparse(np.zeros((2, 2), bool), 3, bias)
    assert_offloaded(model, feeds(model))


def test_an_output_block_of_zeros_in_every_tile() -> None:
    keep = np.array([[0, 0, 0], [1, 0, 1], [0, 0, 0]], bool)
    model = sparse(keep, 3, 0)
    assert_offloaded(model, feeds(model), SMALL)


def test_zero_blocks_are_not_multiplied() -> None:
    """Half of the blocks: half of the steps that the dense layer takes over its bias."""
    from optc.targets.vta.compiler.estimate import term_steps

    def steps(keep: np.ndarray) -> int:
        (program,) = compiled(sparse(keep, 3, 0)).programs.values()
        (stage,) = program.stages
        return max(term_steps(stage, t) for t in stage.terms)

    keep = np.indices((4, 4)).sum(axis=0) % 2 == 0
    assert steps(keep) * 2 == steps(np.ones_like(keep))
