"""Transposed convolutions: on VTA and in TVM's loops equal to the reference."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from qdq import Qdq, codes, feeds
from regions_of import PAIRS, SMALL, TINY, assert_offloaded

from optc.models.model import Model
from optc.passes.quantize.integer.execute import Reference
from optc.targets.cpu import Cpu
from optc.targets.vta.compiler.estimate import floor
from optc.targets.vta.compiler.stages import Axis


def transposed(
    shape: tuple[int, ...], out: int, kernel: tuple[int, ...], exponent: int = -9, **attributes: Any
) -> Model:
    net = Qdq()
    weight = codes(np.random.default_rng(7), (shape[1], out, *kernel), 30)
    bias = np.arange(out, dtype=np.int32) * 100 - 300
    value = net.layer("ConvTranspose", net.input(shape), weight, exponent, bias, 1, **attributes)
    return net.model(net.code(value, 0))


DRAWN: dict[str, Any] = {
    "shape": st.tuples(st.integers(1, 2), st.integers(1, 20), st.integers(1, 6), st.integers(1, 6)),
    "out": st.integers(1, 20),
    "kernel": st.tuples(st.integers(1, 4), st.integers(1, 5)),
    "strides": st.tuples(st.integers(1, 4), st.integers(1, 3)),
    "dilations": st.tuples(st.integers(1, 2), st.integers(1, 2)),
    "cut": st.booleans(),
    "extra": st.booleans(),
}


def drawn(case: dict[str, Any]) -> Model:
    case = dict(case)
    kernel, strides, dilations = case["kernel"], case["strides"], case["dilations"]
    cut, extra = case.pop("cut"), case.pop("extra")
    pads = [(k - 1) * d // 2 if cut else 0 for k, d in zip(kernel, dilations, strict=True)]
    more = [max(s, d) - 1 if extra else 0 for s, d in zip(strides, dilations, strict=True)]
    return transposed(**case, pads=[*pads, *pads], output_padding=more)


@settings(max_examples=60, deadline=None)
@given(case=st.fixed_dictionaries(DRAWN), config=st.sampled_from([None, SMALL, TINY, PAIRS]))
def test_drawn_on_vta(case: dict[str, Any], config: Any) -> None:
    model = drawn(case)
    assert_offloaded(model, feeds(model), config)


@settings(
    max_examples=12,
    deadline=None,
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
)
@given(case=st.fixed_dictionaries(DRAWN))
def test_drawn_on_the_cpu(case: dict[str, Any], tmp_path_factory: pytest.TempPathFactory) -> None:
    model = drawn(case)
    artifact = Cpu().build(model, tmp_path_factory.mktemp("a"))
    assert all(p.float_reason is None for p in artifact.placement)
    wanted = Reference(artifact.model).run(feeds(model))
    for name, found in artifact.run(feeds(model)).items():
        np.testing.assert_array_equal(found, wanted[name])


def test_free_sizes_on_the_cpu(tmp_path: Path) -> None:
    model = transposed(("N", 3, "H", "W"), 4, (3, 3), strides=[2, 2], pads=[1, 1, 0, 1])  # type: ignore[arg-type]
    artifact = Cpu().build(model, tmp_path)
    x = {"x0": np.random.default_rng(0).integers(-99, 99, (2, 3, 4, 5)).astype(np.float32)}
    wanted = Reference(artifact.model).run(x)
    for name, found in artifact.run(x).items():
        np.testing.assert_array_equal(found, wanted[name])


def test_a_zero_point_on_the_cpu(tmp_path: Path) -> None:
    """What stands between the values is the zero point, not 0."""
    net = Qdq(dtype=np.uint8, zero=9)
    weight = codes(np.random.default_rng(7), (3, 4, 3, 3), 30)
    value = net.layer("ConvTranspose", net.input((1, 3, 4, 4)), weight, -5, None, 1, strides=[3, 3])
    artifact = Cpu().build(net.model(net.code(value, 0)), tmp_path)
    wanted = Reference(artifact.model).run(feeds(artifact.model))
    for name, found in artifact.run(feeds(artifact.model)).items():
        np.testing.assert_array_equal(found, wanted[name])


def test_one_axis_and_scales_by_channel() -> None:
    model = transposed((1, 20, 9), 6, (4,), np.array([-9, -8, -10, -9, -9, -8]), strides=[2])  # type: ignore[arg-type]
    assert_offloaded(model, feeds(model))


def test_added_to_a_value() -> None:
    """The sum is taken in the accumulator."""
    net = Qdq()
    x = net.input((1, 16, 4, 4))
    weight = codes(np.random.default_rng(7), (16, 16, 2, 2), 30)
    value = net.layer("ConvTranspose", x, weight, -9, None, 1, strides=[2, 2])
    model = net.model(net.code(net.node("Add", [value, net.input((1, 16, 8, 8), -1)]), 0))
    found = assert_offloaded(model, feeds(model))
    (program,) = found.programs.values()
    assert len(program.stages) == 1


def test_only_places_that_are_reached_are_multiplied() -> None:
    """A 4x4 kernel of stride 2: each output has 2x2 taps but at the border, and as many steps."""
    model = transposed((1, 32, 16, 16), 32, (4, 4), strides=[2, 2], pads=[1, 1, 1, 1])
    found = assert_offloaded(model, feeds(model))
    (program,) = found.programs.values()
    (stage,) = program.stages
    taps = 2 * 2 * 16 - 2  # 32 outputs along an axis, of which the first and the last have one tap
    assert stage.macs == 32 * 32 * 16 * 256
    assert floor(stage) <= 2 * 2 * taps**2 + 8 * 2 * 32 * 32


@settings(max_examples=200, deadline=None)
@given(
    size=st.integers(1, 9),
    kernel=st.integers(1, 5),
    stride=st.integers(1, 4),
    dilation=st.integers(1, 3),
    before=st.integers(0, 6),
    low=st.integers(0, 20),
    count=st.integers(1, 20),
)
def test_what_a_tap_reads(
    size: int, kernel: int, stride: int, dilation: int, before: int, low: int, count: int
) -> None:
    axis = Axis(size, kernel, stride, dilation, before, transposed=True)
    high = low + count
    positions: set[int] = set()
    for tap in range(kernel):
        wanted = [(i * stride + tap * dilation - before, i) for i in range(size)]
        wanted = [(o, i) for o, i in wanted if low <= o < high]
        run = axis.run(tap, low, high)
        found = (
            [(run.first + n * run.step, run.source + n * run.source_step) for n in range(run.number)]
            if run
            else []
        )
        assert found == wanted
        positions.update(i for _, i in wanted)
    first, number = axis.span(low, high)
    assert positions <= set(range(first, first + number))
