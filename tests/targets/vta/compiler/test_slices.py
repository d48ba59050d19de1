"""Slices: whole blocks of channels by address, other channels and places picked."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from qdq import Qdq, codes, feeds
from regions_of import SMALL, TINY, assert_equal, assert_offloaded, compiled

from optc.models.model import Model


def cut(net: Qdq, value: str, *bounds: tuple[int, int, int, int]) -> str:
    """Slice by (axis, start, end, step)."""
    axes, starts, ends, steps = (net.constant(list(column), np.int64) for column in zip(*bounds, strict=True))
    return net.code(net.node("Slice", [value, starts, ends, axes, steps]), 0)


def behind(net: Qdq, value: str, channels: int, out: int = 16) -> str:
    weight = codes(np.random.default_rng(channels), (out, channels, 1, 1))
    return net.code(net.layer("Conv", value, weight, -10), 0)


def split(sizes: list[int], layers: bool) -> Model:
    """Channels of a layer's result, cut at every size; each piece goes into a layer, or out."""
    net = Qdq()
    value = behind(net, net.input((1, 16, 4, 5)), 16, sum(sizes))
    outputs, at = [], 0
    for size in sizes:
        piece = cut(net, value, (1, at, at + size, 1))
        outputs.append(behind(net, piece, size) if layers else piece)
        at += size
    return net.model(*outputs)


@pytest.mark.parametrize("config", [None, SMALL, TINY])
@pytest.mark.parametrize("layers", [True, False])
@pytest.mark.parametrize("sizes", [[16, 16], [32, 16], [16, 5], [5, 16], [3, 3, 3], [24, 8]], ids=str)
def test_channels(sizes: list[int], layers: bool, config: Any) -> None:
    model = split(sizes, layers)
    assert_offloaded(model, feeds(model), config)


def test_whole_blocks_take_no_time() -> None:
    found = assert_offloaded(split([16, 32], True), feeds(split([16, 32], True)))
    (program,) = found.programs.values()
    assert len(program.stages) == 3


@settings(max_examples=60, deadline=None)
@given(
    data=st.data(), rank=st.sampled_from([3, 4]), matrix=st.booleans(), config=st.sampled_from([None, SMALL])
)
def test_drawn_slices(data: Any, rank: int, matrix: bool, config: Any) -> None:
    """Any axes but the first, any steps forward, ends beyond the size and from behind."""
    net = Qdq()
    shape = (1, *(data.draw(st.integers(1, 20)) for _ in range(rank - 1)))
    value = net.input(shape)
    if matrix:
        value = net.code(net.layer("MatMul", value, codes(net_rng(), (shape[-1], shape[-1])), -9), 0)
    bounds: list[tuple[int, int, int, int]] = []
    for axis in data.draw(st.sets(st.integers(1, rank - 1), min_size=1)):
        size = shape[axis]
        start = data.draw(st.integers(-size, size - 1))
        end = data.draw(st.sampled_from([size, 2**31, start % size + 1]))
        bounds.append((axis - rank * data.draw(st.booleans()), start, end, data.draw(st.integers(1, 3))))
    model = net.model(cut(net, value, *bounds))
    found = compiled(model, config)
    assert_equal(found, feeds(model))
    moved = {n for n in found.taken.reasons.values() if "between float" not in n}
    assert moved <= {"nothing beside it is there to compute"}, moved


def net_rng() -> np.random.Generator:
    return np.random.default_rng(4)


@pytest.mark.parametrize(
    ("bounds", "reason"), [((0, 0, 1, 1), "it selects samples"), ((2, 3, -9, -1), "it runs backwards")]
)
def test_what_stays_on_the_host(bounds: tuple[int, int, int, int], reason: str) -> None:
    net = Qdq()
    value = behind(net, net.input((2, 16, 4, 5)), 16)
    model = net.model(behind(net, cut(net, value, bounds), 16))
    found = compiled(model)
    assert reason in found.taken.reasons.values()
    assert_equal(found, feeds(model))
