"""Products of two activations: the host gives the second as weight blocks."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from qdq import Qdq, codes, feeds
from regions_of import PAIRS, SMALL, TINY, assert_equal, assert_offloaded, compiled

from optc.models.model import Model
from optc.targets.vta.compiler.values import Matrices
from optc.targets.vta.config import Config


def product(stack: tuple[int, ...], m: int, k: int, n: int, out: int | None = 10) -> Model:
    """[*stack, m, k] times [*stack, k, n]; codes of 2^out, or float."""
    net = Qdq()
    value = net.node("MatMul", [net.input((*stack, m, k)), net.input((*stack, k, n))])
    return net.model(value if out is None else net.code(value, out))


@settings(max_examples=40, deadline=None)
@given(
    stack=st.sampled_from([(), (1,), (3,), (1, 2), (2, 3), (1, 1)]),
    m=st.integers(1, 40),
    k=st.integers(1, 50),
    n=st.integers(1, 70),
    out=st.sampled_from([None, 0, 7, 12]),
    config=st.sampled_from([None, SMALL, TINY]),
)
def test_drawn_products(stack: tuple[int, ...], m: int, k: int, n: int, out: int | None, config: Any) -> None:
    model = product(stack, m, k, n, out)
    found = assert_offloaded(model, feeds(model), config)
    assert found.ops == {"Product"}


def test_weights_of_an_image_that_do_not_fit_at_once() -> None:
    model = product((2,), 9, 600, 130)
    assert_offloaded(model, feeds(model), SMALL)


def test_two_samples_in_an_element() -> None:
    """BATCH 2: the two rows of an element share weights, so that only one matrix is taken."""
    assert_offloaded(product((), 8, 20, 20), feeds(product((), 8, 20, 20)), PAIRS)
    found = compiled(product((2,), 8, 20, 20), PAIRS)
    assert any("BATCH" in r for r in found.taken.reasons.values())


@pytest.mark.parametrize(("left", "right"), [((2, 3, 4), (4, 5)), ((1, 3, 4), (2, 4, 5)), ((4,), (4, 5))])
def test_operands_that_spread(left: tuple[int, ...], right: tuple[int, ...]) -> None:
    net = Qdq()
    value = net.node("MatMul", [net.input(left), net.input(right)])
    found = compiled(net.model(net.code(value, 8)))
    assert not found.taken.regions
    assert "its operands are not two stacks of as many matrices" in found.taken.reasons.values()


def attention(moved: int) -> Model:
    """[12, 24] times [24, 12], both made by layers on VTA; the operand `moved` goes through a Transpose."""
    net = Qdq()
    x = net.input((1, 12, 32))
    rng = np.random.default_rng(3)
    operands = [net.code(net.layer("MatMul", x, codes(rng, (32, 12)), -10), 0) for _ in range(2)]
    turned = net.node("Transpose", [operands[moved]], perm=[0, 2, 1])
    operands[moved] = net.code(turned, 0)
    return net.model(net.code(net.node("MatMul", operands), 8))


@pytest.mark.parametrize("moved", [0, 1])
def test_operands_that_vta_makes(moved: int) -> None:
    """Even without a move between them: the host packs the second operand, so that the product is apart."""
    model = attention(moved)
    found = compiled(model)
    assert_equal(found, feeds(model))
    kinds = [{type(o).__name__ for o in r.ops} for r in found.taken.regions]
    assert kinds == [{"Layer"}, {"Layer"}, {"Product"}]


@settings(max_examples=30, deadline=None)
@given(
    stack=st.sampled_from([(), (2,), (2, 3)]),
    k=st.integers(1, 40),
    n=st.integers(1, 40),
    config=st.sampled_from([Config(), SMALL, TINY]),
)
def test_packed_matrices(stack: tuple[int, ...], k: int, n: int, config: Config) -> None:
    """Block (o, i) of an image: rows are columns o of the matrix, columns its rows i."""
    matrices = codes(np.random.default_rng(0), (*stack, k, n))
    form = Matrices(matrices.shape)
    packed = form.pack(matrices, config)
    block = config.block
    assert packed.size == form.extent(config).elements * config.batch * block
    back = packed.transpose(0, 2, 4, 1, 3).reshape(-1, packed.shape[2] * block, packed.shape[1] * block)
    np.testing.assert_array_equal(back[:, :k, :n].reshape(matrices.shape), matrices)
    assert np.abs(packed.astype(int)).sum() == np.abs(matrices.astype(int)).sum()
