"""Cuts cover everything once, and what a tiling asks for fits the chip."""

from __future__ import annotations

from itertools import islice
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from qdq import Qdq, codes
from regions_of import SMALL, TINY, compiled
from test_layers import convolution

from optc.targets.vta.compiler.cuts import of_blocks, parts_of, ranges, splits, vector_elements
from optc.targets.vta.compiler.stages import Stage
from optc.targets.vta.compiler.tiling import tilings
from optc.targets.vta.config import Config, Memory


@given(total=st.integers(1, 300), size=st.integers(1, 300))
def test_ranges_cover_all_in_order(total: int, size: int) -> None:
    found = ranges(total, size)
    assert [i for a, b in found for i in range(a, b)] == list(range(total))
    lengths = [b - a for a, b in found]
    assert max(lengths) <= size and max(lengths) - min(lengths) <= 1
    assert len(found) == -(-total // size)


@given(total=st.integers(1, 300))
def test_splits_are_the_sizes_of_even_cuts(total: int) -> None:
    found = splits(total)
    assert found[0] == total and found[-1] == 1
    assert found == sorted(set(found), reverse=True)
    for size in found:
        assert max(b - a for a, b in ranges(total, size)) == size


def stage_of(model: Any, config: Config | None = None) -> Stage:
    (program,) = compiled(model, config).programs.values()
    return program.stages[-1]


def residual_stage() -> Stage:
    rng = np.random.default_rng(0)
    net = Qdq()
    x, y = net.input((1, 40, 9, 9)), net.input((1, 72, 9, 9), -3)
    layer = net.layer("Conv", x, codes(rng, (72, 40, 3, 3), 20), -9, pads=[1] * 4)
    return stage_of(net.model(net.code(net.node("Add", [layer, y]), 0)))


STAGES = {
    "3x3": lambda: stage_of(convolution((1, 64, 14, 14), 80, (3, 3), pads=[1] * 4)),
    "strided": lambda: stage_of(convolution((1, 64, 15, 13), 40, (3, 3), strides=[2, 2])),
    "depthwise": lambda: stage_of(convolution((1, 48, 12, 12), 48, (3, 3), group=48)),
    "even": lambda: stage_of(convolution((1, 32, 9, 9), 40, (1, 1), rounding="even")),
    "large bias": lambda: stage_of(convolution((1, 32, 9, 9), 40, (1, 1), bias=2**24)),
    "residual": residual_stage,
}


@pytest.mark.parametrize("config", [Config(), SMALL, TINY], ids=["default", "small", "tiny"])
@pytest.mark.parametrize("name", list(STAGES))
def test_every_tiling_fits(name: str, config: Config) -> None:
    """The stages were made for BLOCK 16; the rooms are the smaller machines' all the same."""
    stage = STAGES[name]()
    found = list(islice(tilings(stage, config), 300))
    if config == Config():
        assert found
    for cuts, tiling in found:
        assert sum(b.room for b in tiling.inputs) <= config.depth(Memory.INP)
        assert sum(b.room for b in tiling.weights) <= config.depth(Memory.WGT)
        assert cuts.accumulators + vector_elements(stage) <= config.depth(Memory.ACC)
        for number, term in enumerate(stage.terms):
            part = tiling.part_blocks[number]
            assert tiling.inputs[number].size >= cuts.input_plane(number) * part
            for blocks in cuts.block_ranges:
                rows = of_blocks(term, *blocks)
                for chosen in parts_of(rows, part):
                    used = np.unique(rows[np.isin(rows[:, 1], chosen), 4])
                    assert len(used) <= tiling.weights[number].size
                    assert len(chosen) <= part


def test_parts_cover_the_source_blocks_once() -> None:
    term = max(STAGES["3x3"]().terms, key=lambda t: len(t.index))
    rows = of_blocks(term, 1, 3)
    assert set(rows[:, 0]) == {1, 2}
    parts = parts_of(rows, 3)
    assert np.concatenate(parts).tolist() == np.unique(rows[:, 1]).tolist()
    assert max(len(p) for p in parts) <= 3
