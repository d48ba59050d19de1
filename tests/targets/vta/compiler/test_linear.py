"""Linear maps as weight blocks: each against its meaning in numpy."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from optc.targets.vta.compiler.linear import bias_terms, constant_element, convolution, diagonal, placement


def dense(index: np.ndarray, blocks: np.ndarray, shape: tuple[int, int, int, int]) -> np.ndarray:
    """The weight [co, ci, kh, kw] that rows (out, in, ky, kx, number) describe, padded to whole blocks."""
    block = blocks.shape[-1]
    co, ci, kh, kw = shape
    full = np.zeros((-(-co // block) * block, -(-ci // block) * block, kh, kw), np.int64)
    for out, source, ky, kx, number in index.tolist():
        rows, columns = slice(out * block, (out + 1) * block), slice(source * block, (source + 1) * block)
        assert not full[rows, columns, ky, kx].any(), "two blocks in one place"
        full[rows, columns, ky, kx] = blocks[number]
    return full


@settings(max_examples=100, deadline=None)
@given(
    group=st.integers(1, 6),
    out=st.integers(1, 9),
    per_group=st.integers(1, 9),
    kernel=st.tuples(st.integers(1, 3), st.integers(1, 3)),
    block=st.sampled_from([4, 8, 16]),
    seed=st.integers(0, 99),
)
def test_convolutions(
    group: int, out: int, per_group: int, kernel: tuple[int, int], block: int, seed: int
) -> None:
    """Grouped weights stand at their channels, all else is zero, and no block of zeros is there."""
    rng = np.random.default_rng(seed)
    weight = rng.integers(-1, 2, (group * out, per_group, *kernel)).astype(np.int8)
    index, blocks = convolution(weight, group, block)
    wanted = np.zeros((group * out, group * per_group, *kernel), np.int64)
    for row in range(group * out):
        first = row // out * per_group
        wanted[row, first : first + per_group] = weight[row]
    found = dense(index, blocks, wanted.shape)
    np.testing.assert_array_equal(found[: wanted.shape[0], : wanted.shape[1]], wanted)
    assert not found[wanted.shape[0] :].any() and not found[:, wanted.shape[1] :].any()
    assert blocks.any(axis=(1, 2)).all()


@pytest.mark.parametrize("taps", [(1, 1), (2, 3)])
@pytest.mark.parametrize("factors", [np.asarray(7), np.arange(-5, 15)], ids=["one", "each"])
def test_diagonals(factors: np.ndarray, taps: tuple[int, int]) -> None:
    index, blocks = diagonal(factors, 2, 16, taps)
    values = np.zeros(32, np.int64)
    values[:20] = np.broadcast_to(factors, 20)
    if factors.ndim == 0:
        values[:] = factors
    found = dense(index, blocks, (32, 32, *taps))
    for ky, kx in np.ndindex(taps):
        np.testing.assert_array_equal(found[:, :, ky, kx], np.diag(values))


@given(channels=st.integers(1, 40), first=st.integers(0, 40))
def test_placement(channels: int, first: int) -> None:
    found = dense(*placement(channels, first, 16), (first + channels, channels, 1, 1))[:, :, 0, 0]
    moved = found @ np.pad(np.arange(1, channels + 1), (0, -channels % 16))
    assert moved[first : first + channels].tolist() == list(range(1, channels + 1))
    assert np.count_nonzero(found) == channels


@settings(max_examples=200, deadline=None)
@given(
    values=st.lists(
        st.integers(-(2**31), 2**31 - 1) | st.integers(-500_000, 500_000) | st.integers(-300, 300),
        min_size=1,
        max_size=40,
    ),
    block=st.sampled_from([4, 8, 16]),
    batch=st.sampled_from([1, 2]),
)
def test_biases_are_exact(values: list[int], block: int, batch: int) -> None:
    """None where it takes more than two steps; else the product with the constant element."""
    bias = np.zeros(-(-len(values) // block) * block, np.int64)
    bias[: len(values)] = values
    terms = bias_terms(bias, block, 2)
    reach = 2 * 127 * 127 * (block - 1)
    assert (terms is None) == (np.abs(bias).max() > reach)
    total = np.zeros((batch, bias.size), np.int64)
    for term in terms or ():
        for out, source, _, _, number in term.index.tolist():
            product = (
                constant_element(batch, block).astype(np.int64) @ term.weights[number].astype(np.int64).T
            )
            assert source == 0
            total[:, out * block : (out + 1) * block] += product
    if terms is not None:
        np.testing.assert_array_equal(total, np.tile(bias, (batch, 1)))


def test_small_biases_take_one_step() -> None:
    bias: Any = np.full(16, 127 * 127 * 15)
    assert [len(bias_terms(b, 16, 2) or ()) for b in (bias, bias + 1, 0 * bias)] == [1, 2, 0]
