"""Output blocks without weights: the compiler writes them once, and VTA does nothing for them."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from qdq import Qdq, codes, feeds
from regions_of import PAIRS, SMALL, TINY, Compiled, assert_equal, assert_offloaded, compiled

from optc.models.model import Model
from optc.targets.vta.compiler.constant import without_constants
from optc.targets.vta.config import Config
from optc.targets.vta.isa import Gemm, Store, decode


def network(
    out: int, gone: tuple[int, ...], exponent: Any = -9, relu: bool = False, images: int = 1, block: int = 16
) -> Model:
    """A convolution, some blocks of whose weights are zero, between two others that read beyond its edges."""
    rng = np.random.default_rng(5)
    net = Qdq()
    value = net.input((images, 16, 6, 5))
    value = net.code(net.layer("Conv", value, codes(rng, (16, 16, 1, 1)), -7), 0)
    weight = codes(rng, (out, 16, 3, 3))
    for number in gone:
        weight[number * block : (number + 1) * block] = 0
    bias = rng.integers(-9000, 9000, out).astype(np.int32)
    found = net.layer("Conv", value, weight, exponent, bias, pads=[1, 1, 1, 1])
    value = net.code(net.node("Relu", [found]) if relu else found, 0)
    last = net.layer("Conv", value, codes(rng, (16, out, 3, 3)), -11, pads=[1, 1, 1, 1])
    return net.model(net.code(last, 0))


def steps(found: Compiled) -> int:
    """GEMM steps and stored elements of all programs."""
    total = 0
    for program in found.programs.values():
        for i in decode(program.instructions, found.config):
            if isinstance(i, Gemm):
                total += i.iter_out * i.iter_in * (i.uop_end - i.uop_begin)
            total += i.x_size * i.y_size if isinstance(i, Store) else 0
    return total


@pytest.mark.parametrize("gone", [(), (0,), (1,), (2,), (0, 2), (0, 1, 2)])
@pytest.mark.parametrize("relu", [False, True])
def test_any_blocks(gone: tuple[int, ...], relu: bool) -> None:
    model = network(48, gone, relu=relu)
    assert_offloaded(model, feeds(model))


@pytest.mark.parametrize(("config", "block"), [(SMALL, 8), (TINY, 4), (PAIRS, 16)])
def test_other_machines(config: Config, block: int) -> None:
    model = network(3 * block, (0, 2), images=2, block=block)
    assert_offloaded(model, feeds(model), config)


def test_every_code_is_an_output() -> None:
    model = network(48, (1,))
    assert_equal(compiled(model, every=True), feeds(model))


def test_accumulators_that_leave() -> None:
    """Scales that are no powers of two: several bytes of each sum."""
    rng = np.random.default_rng(3)
    net = Qdq()
    weight = codes(rng, (48, 16, 3, 3))
    weight[16:32] = 0
    bias = rng.integers(-70000, 70000, 48).astype(np.int32)
    found = net.layer("Conv", net.input((1, 16, 6, 6)), weight, -7, bias)
    model = net.model(net.node("Erf", [found]))
    assert_equal(compiled(model), feeds(model))


def test_vta_does_less() -> None:
    """A block of 6 x 5 places: no reset, no bias, no taps, no codes."""
    whole, less = (steps(compiled(network(48, gone))) for gone in ((), (1,)))
    taps = (5 + 6 + 5) * (4 + 5 + 4)
    bias = 30
    assert whole - less >= taps + 30 + bias + 30


def test_a_stage_that_reads_for_every_block_stays() -> None:
    (program,) = compiled(network(48, ())).programs.values()
    for stage in program.stages:
        assert without_constants(stage, 16) == (stage, [])


@settings(max_examples=25, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(
    out=st.integers(1, 20),
    gone=st.sets(st.integers(0, 4)),
    exponent=st.integers(-14, 1),
    relu=st.booleans(),
)
def test_any_scales(out: int, gone: set[int], exponent: int, relu: bool) -> None:
    model = network(out, tuple(gone), exponent, relu, block=4)
    assert_equal(compiled(model, TINY, every=True), feeds(model))
