"""Gemm and MatMul with constant weights."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from qdq import Qdq, codes, feeds
from regions_of import PAIRS, SMALL, TINY, assert_equal, assert_offloaded, compiled

from optc.models.model import Model


def product(
    shape: tuple[Any, ...],
    out: int,
    op: str = "MatMul",
    bias: bool = False,
    per_channel: bool = False,
    rounding: str = "half_up",
    **attributes: Any,
) -> Model:
    rng = np.random.default_rng(3)
    net = Qdq(rounding)
    turned = bool(attributes.get("transB"))
    weight = codes(rng, (out, shape[-1]) if turned else (shape[-1], out))
    exponent = rng.integers(-10, -6, out) if per_channel else -9
    offset = rng.integers(-9000, 9000, out).astype(np.int32) if bias else None
    value = net.layer(
        op, net.input(shape), weight, exponent, offset, channels=0 if turned else 1, **attributes
    )
    return net.model(net.code(value, 0))


PRODUCTS: dict[str, Model] = {
    "row": product((1, 40), 17),
    "rows": product((9, 40), 17),
    "three axes": product((1, 9, 20), 33),
    "three axes, samples": product((3, 9, 20), 33),
    "four axes": product((2, 3, 5, 18), 16),
    "gemm": product((1, 70), 10, "Gemm", bias=True),
    "gemm, turned": product((5, 70), 10, "Gemm", bias=True, transB=1),
    "one by one": product((1, 1), 1, "Gemm"),
    "long": product((1, 2048), 100, "Gemm", bias=True),
    "per channel": product((7, 40), 40, "Gemm", bias=True, per_channel=True),
    "many rows": product((1, 300, 64), 64),
}


@pytest.mark.parametrize("config", [None, SMALL, TINY, PAIRS], ids=["default", "small", "tiny", "pairs"])
@pytest.mark.parametrize("name", list(PRODUCTS))
def test_products(name: str, config: Any) -> None:
    assert_offloaded(PRODUCTS[name], feeds(PRODUCTS[name]), config)


@settings(max_examples=30, deadline=None)
@given(
    shape=st.lists(st.integers(1, 9), min_size=1, max_size=3),
    width=st.integers(1, 70),
    out=st.integers(1, 70),
    rounding=st.sampled_from(["even", "half_up"]),
    config=st.sampled_from([None, SMALL, TINY, PAIRS]),
)
def test_drawn_products(shape: list[int], width: int, out: int, rounding: str, config: Any) -> None:
    model = product((*shape, width), out, rounding=rounding)
    assert_offloaded(model, feeds(model), config)


@pytest.mark.parametrize("batch", [1, 3])
@pytest.mark.parametrize("shape", [("N", 24), ("N", 5, 24)])
def test_a_free_batch_dimension(shape: tuple[Any, ...], batch: int) -> None:
    model = product(shape, 20)
    found = assert_offloaded(model, feeds(model, batch=batch))
    (region,) = found.taken.regions
    assert region.batched


def test_a_stack_of_matrices_stays_on_the_host() -> None:
    net = Qdq()
    value = net.layer("MatMul", net.input((2, 3, 4)), np.ones((2, 4, 5), np.int8), -3, channels=1)
    found = compiled(net.model(net.code(value, 0)))
    assert "its weights are a stack of matrices" in found.taken.reasons.values()
    assert not found.taken.regions


def test_channels_on_two_axes_stay_on_the_host() -> None:
    """A value that a MatMul reads by its last axis, and a convolution by its second."""
    net = Qdq()
    x = net.input((1, 20, 6))
    left = net.code(net.layer("MatMul", x, np.ones((6, 6), np.int8), -3, channels=1), 0)
    right = net.code(net.layer("Conv", x, np.ones((6, 20, 1), np.int8), -3), 0)
    found = compiled(net.model(left, right))
    assert sum("channels on another axis" in r for r in found.taken.reasons.values()) == 1
    assert_equal(found, feeds(found.model))
