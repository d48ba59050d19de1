"""Layouts: tensors to elements and back."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from regions_of import PAIRS, SMALL

from optc.targets.vta.compiler.values import Layout, image_layout, matrix_layout
from optc.targets.vta.config import Config

CONFIGS = st.sampled_from([Config(), SMALL, PAIRS])


def numbered(shape: tuple[int, ...]) -> np.ndarray:
    return np.random.default_rng(0).integers(-128, 128, shape).astype(np.int8)


@given(shape=st.lists(st.integers(1, 20), min_size=2, max_size=4), config=CONFIGS, matrix=st.booleans())
def test_there_and_back(shape: list[int], config: Config, matrix: bool) -> None:
    layout = (matrix_layout if matrix else image_layout)(tuple(shape))
    array = numbered(tuple(shape))
    packed = layout.pack(array, config)
    extent = layout.extent(config)
    assert packed.shape == (
        extent.images, extent.blocks, extent.rows, extent.columns, config.batch, config.block,
    )  # fmt: skip
    np.testing.assert_array_equal(layout.unpack(packed, config), array)
    assert np.abs(packed.astype(int)).sum() == np.abs(array.astype(int)).sum()


@pytest.mark.parametrize(
    ("layout", "sizes"),
    [
        (image_layout((2, 20, 5, 6)), (2, 20, 5, 6)),
        (image_layout((2, 20, 6)), (2, 20, 1, 6)),
        (image_layout((7, 20)), (1, 20, 1, 7)),
        (matrix_layout((20,)), (1, 20, 1, 1)),
        (matrix_layout((7, 20)), (1, 20, 1, 7)),
        (matrix_layout((5, 7, 20)), (1, 20, 5, 7)),
        (matrix_layout((2, 5, 7, 20)), (2, 20, 5, 7)),
    ],
)
def test_sizes(layout: Layout, sizes: tuple[int, int, int, int]) -> None:
    assert layout.sizes == sizes


def test_an_element_is_one_pixel_of_one_block() -> None:
    """docs/vta.md, "Layouts of tensors"."""
    array = numbered((1, 40, 3, 4))
    packed: Any = image_layout(array.shape).pack(array, Config())
    np.testing.assert_array_equal(packed[0, 1, 2, 3, 0], array[0, 16:32, 2, 3])
    np.testing.assert_array_equal(packed[0, 2, 0, 1, 0], np.pad(array[0, 32:, 0, 1], (0, 8)))
