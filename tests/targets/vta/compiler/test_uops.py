"""What `place` says always holds the words of the sequence: a model of the chip's memory."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from optc.targets.vta.compiler.uops import UopMemory

DEPTH = 16


def words(key: int, size: int) -> np.ndarray:
    return (key * 1000 + np.arange(size)).astype(np.uint32)


@st.composite
def requests(draw: Any) -> list[dict[int, np.ndarray]]:
    """Requests of sequences, each key with one size, none too large for the memory."""
    sizes = draw(st.lists(st.integers(1, 9), min_size=1, max_size=8))
    found: list[dict[int, np.ndarray]] = []
    for _ in range(draw(st.integers(1, 25))):
        keys = draw(st.lists(st.integers(0, len(sizes) - 1), unique=True, max_size=4))
        while sum(sizes[k] for k in keys) > DEPTH:
            keys.pop()
        found.append({k: words(k, sizes[k]) for k in keys})
    return found


@settings(max_examples=400, deadline=None)
@given(sequence=requests())
def test_what_is_wanted_is_there(sequence: list[dict[int, np.ndarray]]) -> None:
    """As the driver asks: what the last request wanted stays until the one after it, unless forgotten."""
    memory = UopMemory(DEPTH)
    chip = np.full(DEPTH, 2**32 - 1, np.uint32)
    before: dict[int, np.ndarray] = {}
    for wanted in sequence:
        loads = memory.request(wanted)
        if loads is None:
            memory.forget()
            before = {}
            loads = memory.request(wanted)
            assert loads is not None
        table = np.concatenate(memory.table) if memory.table else np.zeros(0, np.uint32)
        for at, dram, count in loads:
            assert at + count <= DEPTH
            chip[at : at + count] = table[dram : dram + count]
        for key, held in {**before, **wanted}.items():
            at = memory.place(key)
            np.testing.assert_array_equal(chip[at : at + held.size], held)
        before = wanted
    assert memory.size == sum(w.size for w in memory.table)


def test_what_is_there_is_not_loaded_again() -> None:
    memory = UopMemory(DEPTH)
    assert memory.request({1: words(1, 4)}) == [(0, 0, 4)]
    assert memory.request({1: words(1, 4)}) == []
    assert memory.request({1: words(1, 4), 2: words(2, 3)}) == [(4, 4, 3)]


def test_the_table_holds_a_group_once() -> None:
    memory = UopMemory(4)
    for _ in range(3):
        for key in (1, 2):
            memory.forget()
            memory.request({key: words(key, 4)})
    assert memory.size == 8


def test_too_many_at_once() -> None:
    with pytest.raises(ValueError, match="17 micro-ops at once, there is room for 16"):
        UopMemory(DEPTH).request({1: words(1, 17)})
