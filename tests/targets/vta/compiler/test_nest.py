"""Every step is done exactly once, and accumulations into one element stay apart."""

from __future__ import annotations

from collections import Counter
from typing import Any

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from optc.targets.vta.compiler.nest import APART, Loop, Nest, nests


@st.composite
def drawn_items(draw: Any) -> tuple[np.ndarray, np.ndarray, Loop, Loop]:
    """Items of some output blocks, and the loops over rows and columns; taps at edges begin inside."""
    rows, columns = draw(st.integers(1, 5)), draw(st.integers(1, 5))
    edge = draw(st.sampled_from([0, 2]))
    width = columns + edge
    blocks = np.array(
        sorted(draw(st.lists(st.integers(0, draw(st.sampled_from([0, 1, 5]))), min_size=1, max_size=14)))
    )
    if draw(st.booleans()):
        blocks = np.array(draw(st.permutations(blocks.tolist())))
    src = np.array([draw(st.integers(0, 40)) for _ in blocks])
    first = np.array([draw(st.integers(0, edge)) * width + draw(st.integers(0, edge)) for _ in blocks])
    items = np.stack([blocks * (rows + edge) * width + first, src, np.arange(len(blocks))], axis=1)
    return (
        items,
        blocks,
        Loop(rows, width, draw(st.integers(0, 9))),
        Loop(columns, 1, draw(st.integers(0, 2))),
    )


def steps(nest: Nest) -> list[tuple[int, int, int]]:
    """As the machine does them (docs/vta.md)."""
    return [
        (
            int(d) + i * nest.outer.dst + j * nest.inner.dst,
            int(s) + i * nest.outer.src + j * nest.inner.src,
            int(w),
        )
        for i in range(nest.outer.count)
        for j in range(nest.inner.count)
        for d, s, w in nest.uops
    ]


@settings(max_examples=500, deadline=None)
@given(drawn=drawn_items())
def test_every_step_once(drawn: Any) -> None:
    items, blocks, rows, columns = drawn
    wanted = Counter(s for item in items for s in steps(Nest(item[None], rows, columns)))
    found = nests(items, blocks, rows, columns)
    assert Counter(s for nest in found for s in steps(nest)) == wanted
    assert sum(nest.steps for nest in found) == len(items) * rows.count * columns.count


@settings(max_examples=500, deadline=None)
@given(drawn=drawn_items())
def test_accumulations_into_one_element_are_apart(drawn: Any) -> None:
    for nest in nests(*drawn):
        last: dict[int, int] = {}
        for number, (dst, _, _) in enumerate(steps(nest)):
            assert number - last.get(dst, -APART) >= APART
            last[dst] = number


def test_taps_that_begin_rows_apart() -> None:
    """Three rows each: the second tap's first row is the first tap's last one."""
    items = np.array([[0, 0, 0], [2 * 4, 0, 1]])
    found = nests(items, np.zeros(2, np.int64), Loop(3, 4, 4), Loop(4, 1, 1))
    assert len(found) == 2


def test_a_long_reduction_is_one_instruction() -> None:
    """Three blocks of nine taps each: one nest of 27 micro-ops."""
    blocks = np.repeat(np.arange(3), 9)
    items = np.stack([blocks * 16, np.arange(27), np.arange(27)], axis=1)
    (nest,) = nests(items, blocks, Loop(4, 4, 4), Loop(4, 1, 1))
    assert len(nest.uops) == 27
