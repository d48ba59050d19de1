"""Pooling, concatenation, flattening."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from qdq import Qdq, codes, feeds
from regions_of import PAIRS, SMALL, TINY, assert_equal, assert_offloaded, compiled

from optc.models.model import Model
from optc.targets.vta.config import Config, Memory
from optc.targets.vta.isa import Load, decode

MACHINES = pytest.mark.parametrize("config", [None, SMALL, PAIRS], ids=["default", "small", "pairs"])


def behind(net: Qdq, value: str, channels: int, rank: int = 2, seed: int = 0) -> str:
    """A 1x1 convolution of the value, with codes of its own."""
    weight = codes(np.random.default_rng(seed), (channels, channels, *[1] * rank))
    return net.code(net.layer("Conv", value, weight, -9), 0)


def pool(
    op: str,
    shape: tuple[int, ...],
    exponents: tuple[int, int] = (0, 0),
    rounding: str = "half_up",
    **attributes: Any,
) -> Model:
    net = Qdq(rounding)
    return net.model(net.code(net.node(op, [net.input(shape, exponents[0])], **attributes), exponents[1]))


MAX: dict[str, tuple[tuple[int, ...], dict[str, Any]]] = {
    "2x2": ((1, 20, 8, 8), {"kernel_shape": [2, 2], "strides": [2, 2]}),
    "3x3, padded": ((1, 20, 9, 9), {"kernel_shape": [3, 3], "strides": [2, 2], "pads": [1, 1, 1, 1]}),
    "3x2, uneven": ((1, 16, 9, 7), {"kernel_shape": [3, 2], "strides": [1, 2], "pads": [0, 1, 2, 0]}),
    "ceil": ((1, 16, 8, 8), {"kernel_shape": [3, 3], "strides": [2, 2], "ceil_mode": 1}),
    "ceil, padded": (
        (1, 16, 7, 6), {"kernel_shape": [3, 3], "strides": [3, 2], "pads": [1, 1, 1, 1], "ceil_mode": 1},
    ),
    "dilated": ((1, 16, 9, 9), {"kernel_shape": [2, 3], "dilations": [3, 2]}),
    "same": ((1, 16, 7, 8), {"kernel_shape": [3, 3], "auto_pad": "SAME_UPPER", "strides": [2, 2]}),
    "over the whole": ((1, 16, 5, 5), {"kernel_shape": [5, 5]}),
    "1x1 with gaps": ((1, 16, 7, 8), {"kernel_shape": [1, 1], "strides": [3, 2]}),
    "one axis": ((1, 16, 20), {"kernel_shape": [3], "strides": [2], "pads": [1, 1]}),
    "images": ((3, 16, 6, 6), {"kernel_shape": [2, 2], "strides": [2, 2]}),
}  # fmt: skip


@MACHINES
@pytest.mark.parametrize("name", list(MAX))
def test_max_pools(name: str, config: Any) -> None:
    shape, attributes = MAX[name]
    model = pool("MaxPool", shape, **attributes)
    assert_offloaded(model, feeds(model), config)
    low = {n: -np.abs(x) - 1 for n, x in feeds(model).items()}
    assert_offloaded(model, low, config)


@settings(max_examples=30, deadline=None)
@given(data=st.data(), config=st.sampled_from([None, SMALL, TINY, PAIRS]))
def test_drawn_max_pools(data: Any, config: Any) -> None:
    kernel = [data.draw(st.integers(1, 4)) for _ in range(2)]
    pads = [data.draw(st.integers(0, k - 1)) for k in kernel * 2]
    shape = (1, data.draw(st.integers(1, 40)), *(data.draw(st.integers(4, 12)) for _ in range(2)))
    model = pool(
        "MaxPool",
        shape,
        kernel_shape=kernel,
        pads=pads,
        strides=[data.draw(st.integers(1, 4)) for _ in range(2)],
        ceil_mode=data.draw(st.integers(0, 1)),
    )
    assert_offloaded(model, feeds(model), config)


@pytest.mark.parametrize("rounding", ["half_up", "even"])
@pytest.mark.parametrize("exponents", [(0, 0), (0, -2), (0, 2)])
@pytest.mark.parametrize("size", [(1, 1), (2, 2), (3, 3), (7, 7), (8, 8), (5, 9), (1, 13)])
def test_global_average_pools(size: tuple[int, int], exponents: tuple[int, int], rounding: str) -> None:
    """Exact, or refused with the reason: there is not always a factor that rounds as a division does."""
    model = pool("GlobalAveragePool", (1, 20, *size), exponents, rounding)
    found = compiled(model)
    reasons = set(found.taken.reasons.values()) - {"it lies between float and integer"}
    assert not reasons or all("gives the mean" in r for r in reasons), reasons
    if rounding == "half_up":
        assert not reasons
    assert_equal(found, feeds(model))


def test_a_mean_of_more_than_the_chip_holds() -> None:
    """Of 4096 places, where INP has 2048 elements: rows in parts."""
    model = pool("GlobalAveragePool", (1, 20, 64, 64))
    found = assert_offloaded(model, feeds(model))
    (program,) = found.programs.values()
    assert max(t.y.kernel for t in program.stages[0].terms) < 64


def test_every_mean_of_a_window() -> None:
    """All sums that a 3x3 window can have, ties of the division among them."""
    model = pool("AveragePool", (1, 16, 3, 3 * 256), kernel_shape=[3, 3], strides=[3, 3])
    sums = np.arange(256 * 16) - 2048
    low = sums // 9
    x = np.repeat(low[:, None], 9, axis=1) + (np.arange(9) < (sums - low * 9)[:, None])
    x = np.clip(x, -128, 127).reshape(256, 16, 3, 3).transpose(1, 2, 0, 3).reshape(1, 16, 3, 768)
    assert_offloaded(model, {"x0": x.astype(np.float32)})


AVERAGE: dict[str, dict[str, Any]] = {
    "2x2": {"kernel_shape": [2, 2], "strides": [2, 2]},
    "3x3": {"kernel_shape": [3, 3], "strides": [2, 2]},
    "3x3, padding counted": {"kernel_shape": [3, 3], "pads": [1, 1, 1, 1], "count_include_pad": 1},
    "1x4": {"kernel_shape": [1, 4]},
}


@MACHINES
@pytest.mark.parametrize("name", list(AVERAGE))
def test_average_pools(name: str, config: Any) -> None:
    model = pool("AveragePool", (1, 20, 9, 9), **AVERAGE[name])
    assert_offloaded(model, feeds(model), config)


def test_a_divisor_that_varies_stays_on_the_host() -> None:
    model = pool("AveragePool", (1, 20, 9, 9), kernel_shape=[3, 3], pads=[1, 1, 1, 1])
    found = compiled(model)
    assert "its divisor varies at the border" in found.taken.reasons.values()


def joined(channels: list[int], layers: bool, again: bool = False, shape: tuple[int, ...] = (4, 5)) -> Model:
    """Concat of values with these channels; `layers`: behind convolutions; `again`: one is read besides."""
    net = Qdq()
    values = [net.input((1, c, *shape)) for c in channels]
    if layers:
        values = [
            behind(net, v, c, len(shape), n) for n, (v, c) in enumerate(zip(values, channels, strict=True))
        ]
    whole = net.code(net.node("Concat", values, axis=1), 0)
    outputs = [behind(net, whole, sum(channels), len(shape))]
    if again:
        outputs.append(behind(net, values[0], channels[0], len(shape)))
    return net.model(*outputs)


@pytest.mark.parametrize("layers", [False, True])
@pytest.mark.parametrize("again", [False, True])
@pytest.mark.parametrize(
    "channels", [[16, 32], [16, 5], [5, 16], [3, 3, 3], [40, 24, 8], [16, 16, 16, 16]], ids=str
)
def test_concatenations(channels: list[int], layers: bool, again: bool) -> None:
    model = joined(channels, layers, again)
    assert_offloaded(model, feeds(model))


@MACHINES
def test_concatenations_on_other_machines(config: Any) -> None:
    for channels in ([16, 32], [7, 11]):
        model = joined(channels, True)
        assert_offloaded(model, feeds(model), config)


def test_a_value_joined_with_itself() -> None:
    net = Qdq()
    value = behind(net, net.input((1, 16, 4, 4)), 16)
    model = net.model(behind(net, net.code(net.node("Concat", [value, value], axis=1), 0), 32))
    assert_offloaded(model, feeds(model))


def test_a_value_in_two_concatenations() -> None:
    net = Qdq()
    one, two = (behind(net, net.input((1, 16, 4, 4)), 16, seed=n) for n in range(2))
    first = net.code(net.node("Concat", [one, two], axis=1), 0)
    second = net.code(net.node("Concat", [two, one], axis=1), 0)
    model = net.model(behind(net, first, 32), behind(net, second, 32))
    assert_offloaded(model, feeds(model))


def test_a_concatenation_of_concatenations() -> None:
    net = Qdq()
    one, two, three = (behind(net, net.input((1, 16, 4, 4)), 16, seed=n) for n in range(3))
    first = net.code(net.node("Concat", [one, two], axis=1), 0)
    model = net.model(behind(net, net.code(net.node("Concat", [three, first], axis=1), 0), 48))
    assert_offloaded(model, feeds(model))


def test_a_concatenation_that_is_an_output() -> None:
    net = Qdq()
    one, two = (behind(net, net.input((1, 16, 4, 4)), 16, seed=n) for n in range(2))
    whole = net.code(net.node("Concat", [one, two], axis=1), 0)
    model = net.model(whole, one)
    assert_offloaded(model, feeds(model))


def test_a_concatenation_of_what_the_host_makes() -> None:
    net = Qdq()
    whole = net.code(net.node("Concat", [net.input((1, 16, 4, 4)) for _ in range(2)], axis=1), 0)
    model = net.model(whole)
    assert_offloaded(model, feeds(model))


def test_a_concatenation_of_images() -> None:
    net = Qdq()
    one, two = (behind(net, net.input((2, 16, 4, 4)), 16, seed=n) for n in range(2))
    model = net.model(behind(net, net.code(net.node("Concat", [one, two], axis=1), 0), 32))
    assert_offloaded(model, feeds(model))


@pytest.mark.parametrize("batch", [1, "N"])
def test_a_classifier(batch: Any) -> None:
    """Global average, flattened, multiplied."""
    net = Qdq()
    value = behind(net, net.input((batch, 20, 4, 4)), 20)
    value = net.code(net.node("GlobalAveragePool", [value]), -1)
    value = net.code(net.node("Flatten", [value]), -1)
    rng = np.random.default_rng(0)
    model = net.model(net.code(net.layer("Gemm", value, codes(rng, (20, 10)), -9, channels=1), 0))
    found = assert_offloaded(model, feeds(model, batch=3 if batch == "N" else 1))
    assert found.ops == {"Layer", "AveragePool", "Move"}


def test_a_mean_reads_its_source_once() -> None:
    """49 places need two digits of weights, 4 blocks of 49 elements are loaded for both."""
    net = Qdq()
    mean = net.node("GlobalAveragePool", [net.input((1, 64, 7, 7))])
    (program,) = compiled(net.model(net.code(mean, -2))).programs.values()
    loads = [
        i.x_size * i.y_size
        for i in decode(program.instructions, Config())
        if isinstance(i, Load) and i.memory == Memory.INP
    ]
    assert sum(loads) in (4 * 49, 4 * 49 + 1)  # and the constant element
