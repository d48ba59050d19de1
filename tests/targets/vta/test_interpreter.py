"""The plain interpreter leaves what the real implementations left, and stops where it should."""

from __future__ import annotations

import random
from pathlib import Path

import interpreter
import numpy as np
import pytest
from hypothesis import given, settings
from programs import Drawn, programs

VECTORS = sorted((Path(__file__).parent / "vectors").glob("*.npz"))
DEFAULT = {
    "LOG_INP_WIDTH": 3,
    "LOG_WGT_WIDTH": 3,
    "LOG_ACC_WIDTH": 5,
    "LOG_BATCH": 0,
    "LOG_BLOCK": 4,
    "LOG_UOP_BUFF_SIZE": 15,
    "LOG_INP_BUFF_SIZE": 15,
    "LOG_WGT_BUFF_SIZE": 18,
    "LOG_ACC_BUFF_SIZE": 17,
}


def test_there_are_vectors() -> None:
    assert len(VECTORS) == 40


@pytest.mark.parametrize("path", VECTORS, ids=lambda p: p.stem)
def test_vectors(path: Path) -> None:
    with np.load(path) as file:
        arrays = {k: file[k] for k in file}
    dram = bytearray(1 << 20)
    for k in range(sum(f"in{k}" in arrays for k in range(len(arrays)))):
        start = int(arrays[f"in{k}_addr"])
        dram[start : start + arrays[f"in{k}"].nbytes] = arrays[f"in{k}"].tobytes()
    interpreter.run(arrays["insns"], dram, DEFAULT, random.Random(7).choice)
    for k in range(sum(f"out{k}" in arrays for k in range(len(arrays)))):
        start = int(arrays[f"out{k}_addr"])
        assert dram[start : start + arrays[f"out{k}"].nbytes] == arrays[f"out{k}"].tobytes()


@settings(max_examples=60, deadline=None)
@given(drawn=programs())
def test_generated_programs_do_not_depend_on_the_order(drawn: Drawn) -> None:
    """The generator spends enough tokens: any legal order leaves the same bytes."""
    expected = bytearray(drawn.memory)
    interpreter.run(drawn.rows, expected, drawn.config)
    for pick in (max, random.Random(1).choice, random.Random(2).choice):
        found = bytearray(drawn.memory)
        interpreter.run(drawn.rows, found, drawn.config, pick)
        assert found == expected


def test_a_deadlock_stops() -> None:
    finish = np.zeros((1, 16), np.uint8)
    finish[0, 0] = 3 | 1 << 3  # waits for a token of the load module
    with pytest.raises(interpreter.Undefined, match="deadlock"):
        interpreter.run(finish, bytearray(64), DEFAULT)
