"""Layers by themselves: convolutions of every shape, matrix products, biases, shifts."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from qdq import Qdq, codes, feeds
from regions_of import PAIRS, SMALL, TINY, assert_offloaded

from optc.models.model import Model


def convolution(
    shape: tuple[int, ...],
    out: int,
    kernel: tuple[int, ...],
    group: int = 1,
    relu: bool = False,
    rounding: str = "half_up",
    exponent: Any = -9,
    bias: Any = 1000,
    internal: bool = False,
    **attributes: Any,
) -> Model:
    """One convolution; `internal`: behind a 1x1 one, so that the host cannot fold its input."""
    rng = np.random.default_rng(7)
    net = Qdq(rounding)
    value = net.input(shape)
    if internal:
        eye = codes(rng, (shape[1], shape[1], *[1] * len(kernel)))
        value = net.code(net.layer("Conv", value, eye, -7), 0)
    weight = codes(rng, (out, shape[1] // group, *kernel))
    offset = rng.integers(-bias, bias + 1, out).astype(np.int32) if bias else None
    found = net.layer("Conv", value, weight, exponent, offset, group=group, **attributes)
    found = net.node("Relu", [found]) if relu else found
    return net.model(net.code(found, 0))


SHAPES: dict[str, tuple[tuple[int, ...], int, tuple[int, ...], dict[str, Any]]] = {
    "1x1": ((1, 32, 9, 9), 48, (1, 1), {}),
    "1x1, stride": ((1, 20, 9, 8), 5, (1, 1), {"strides": [2, 3]}),
    "3x3": ((1, 16, 8, 8), 16, (3, 3), {"pads": [1, 1, 1, 1]}),
    "3x3, relu": ((1, 33, 10, 7), 17, (3, 3), {"pads": [1, 1, 1, 1], "relu": True}),
    "3x3, unequal strides": ((1, 16, 9, 12), 16, (3, 3), {"pads": [1, 1, 1, 1], "strides": [2, 3]}),
    "3x3, dilated": ((1, 16, 9, 9), 16, (3, 3), {"pads": [2, 1, 2, 1], "dilations": [2, 1]}),
    "3x3, dilated and strided": (
        (1, 5, 12, 11), 7, (3, 3), {"pads": [3, 2, 1, 0], "dilations": [2, 3], "strides": [2, 2]},
    ),
    "1x7": ((1, 16, 6, 9), 16, (1, 7), {"pads": [0, 3, 0, 3]}),
    "7x1": ((1, 16, 9, 6), 16, (7, 1), {"pads": [3, 0, 3, 0]}),
    "17 rows": ((1, 4, 20, 9), 3, (17, 3), {}),
    "1x19, padded by more than 15": ((1, 16, 3, 9), 16, (1, 37), {"pads": [0, 18, 0, 20]}),
    "asymmetric padding": ((1, 16, 5, 6), 16, (3, 2), {"pads": [0, 1, 2, 0]}),
    "padding beyond what is read": ((1, 16, 3, 3), 16, (2, 2), {"pads": [4, 3, 2, 5]}),
    "same upper": ((1, 16, 7, 8), 16, (3, 2), {"auto_pad": "SAME_UPPER", "strides": [2, 2]}),
    "same lower": ((1, 16, 7, 8), 16, (2, 4), {"auto_pad": "SAME_LOWER"}),
    "stride over the kernel": ((1, 16, 9, 9), 16, (2, 2), {"strides": [3, 4]}),
    "only padding": ((1, 1, 1, 1), 1, (1, 1), {"pads": [1, 0, 0, 0], "strides": [2, 1]}),
    "one output": ((1, 40, 5, 5), 33, (5, 5), {}),
    "one pixel": ((1, 40, 1, 1), 33, (3, 3), {"pads": [1, 1, 1, 1]}),
    "one channel": ((1, 1, 9, 9), 1, (3, 3), {}),
    "three channels": ((1, 3, 16, 15), 16, (7, 7), {"pads": [3, 3, 3, 3], "strides": [2, 2]}),
    "depthwise": ((1, 24, 9, 9), 24, (3, 3), {"group": 24, "pads": [1, 1, 1, 1]}),
    "depthwise, twice as many": ((1, 12, 9, 9), 24, (3, 3), {"group": 12, "strides": [2, 1]}),
    "groups of 16": ((1, 48, 6, 6), 32, (3, 3), {"group": 2, "pads": [1, 1, 1, 1]}),
    "groups of 5": ((1, 20, 6, 6), 28, (2, 2), {"group": 4}),
    "one axis": ((1, 20, 17), 21, (3,), {"pads": [1, 2], "strides": [2]}),
    "one axis, groups": ((1, 20, 17), 20, (5,), {"group": 20, "pads": [2, 2], "dilations": [2]}),
    "images": ((3, 16, 5, 5), 16, (3, 3), {"pads": [1, 1, 1, 1]}),
    "without bias": ((1, 16, 5, 5), 16, (3, 3), {"bias": 0}),
}  # fmt: skip


@pytest.mark.parametrize("internal", [False, True], ids=["input", "internal"])
@pytest.mark.parametrize("name", list(SHAPES))
def test_convolutions(name: str, internal: bool) -> None:
    shape, out, kernel, options = SHAPES[name]
    model = convolution(shape, out, kernel, internal=internal, **options)
    assert_offloaded(model, feeds(model))


@pytest.mark.parametrize("config", [SMALL, TINY, PAIRS], ids=["small", "tiny", "pairs"])
@pytest.mark.parametrize("name", list(SHAPES))
def test_convolutions_on_other_machines(name: str, config: Any) -> None:
    shape, out, kernel, options = SHAPES[name]
    model = convolution(shape, out, kernel, **options)
    assert_offloaded(model, feeds(model), config)


def test_a_kernel_of_17x17() -> None:
    model = convolution((1, 4, 20, 20), 3, (17, 17))
    assert_offloaded(model, feeds(model))


@st.composite
def drawn_convolutions(draw: Any) -> dict[str, Any]:
    rank = draw(st.sampled_from([1, 2, 2, 2]))
    sizes = [draw(st.integers(1, 12)) for _ in range(rank)]
    kernel = [draw(st.integers(1, 4)) for _ in range(rank)]
    dilations = [draw(st.integers(1, 3)) for _ in range(rank)]
    pads = [draw(st.integers(0, 4)) for _ in range(2 * rank)]
    for axis in range(rank):
        need = (kernel[axis] - 1) * dilations[axis] + 1
        missing = need - sizes[axis] - pads[axis] - pads[rank + axis]
        pads[axis] += max(0, missing)
    group = draw(st.sampled_from([1, 1, 2, 3, 16]))
    return {
        "shape": (draw(st.sampled_from([1, 1, 2])), group * draw(st.integers(1, 20)), *sizes),
        "out": group * draw(st.integers(1, 20)),
        "kernel": tuple(kernel),
        "group": group,
        "dilations": dilations,
        "pads": pads,
        "strides": [draw(st.integers(1, 3)) for _ in range(rank)],
        "relu": draw(st.booleans()),
        "rounding": draw(st.sampled_from(["half_up", "even"])),
        "exponent": draw(st.integers(-13, -5)),
        "bias": draw(st.sampled_from([0, 100, 250_000, 2**22])),
        "internal": draw(st.booleans()),
    }


@settings(max_examples=40, deadline=None)
@given(options=drawn_convolutions(), config=st.sampled_from([None, SMALL, TINY, PAIRS]))
def test_drawn_convolutions(options: dict[str, Any], config: Any) -> None:
    model = convolution(**options)
    assert_offloaded(model, feeds(model), config)


LARGE: dict[str, tuple[Any, ...]] = {
    "33x33": ((1, 20, 36, 40), 20, (33, 33), {"internal": True}, None),
    "9x9": ((1, 12, 12, 14), 20, (9, 9), {"internal": True, "pads": [4, 4, 3, 4]}, SMALL),
    "1x80": ((1, 12, 3, 90), 9, (1, 80), {"internal": True, "pads": [0, 5, 0, 3]}, SMALL),
    "9x9, strides, dilations": (
        (1, 12, 30, 34),
        9,
        (9, 9),
        {"internal": True, "strides": [2, 3], "dilations": [3, 2], "pads": [4, 1, 0, 6]},
        SMALL,
    ),
    "9x9, depthwise": ((1, 20, 14, 14), 20, (9, 9), {"internal": True, "group": 20}, SMALL),
}


@pytest.mark.parametrize("name", list(LARGE))
def test_kernels_of_more_blocks_than_the_chip_holds(name: str) -> None:
    """Their taps come in parts, each a term of its own."""
    shape, out, kernel, more, config = LARGE[name]
    model = convolution(shape, out, kernel, exponent=-12, **more)
    found = assert_offloaded(model, feeds(model), config)
    (program,) = found.programs.values()
    whole = program.stages[-1]
    assert len([t for t in whole.terms if len(t.weights) > 1]) > 1
    assert max(t.y.kernel * t.x.kernel for t in whole.terms) < kernel[0] * kernel[1]
