"""DRAM that a program both stores and loads: the two must be ordered by tokens."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from optc.targets.vta.config import Config, Memory
from optc.targets.vta.isa import Instruction, Load, Module, Store, is_nop, module_of
from optc.targets.vta.rules.failure import CheckFailure
from optc.targets.vta.rules.tokens import Timeline

Rows = NDArray[np.int64]
"""Byte ranges, (n, 2): start and end."""


def check_dram(instructions: Sequence[Instruction], config: Config, timeline: Timeline) -> None:
    """`CheckFailure` where a LOAD and a STORE of the same bytes are not ordered, or micro-ops are stored."""
    rows = {
        index: _rows(instruction, config)
        for index, instruction in enumerate(instructions)
        if isinstance(instruction, Load | Store) and not is_nop(instruction)
    }
    stored = [r for i, r in rows.items() if isinstance(instructions[i], Store)]
    if not stored:
        return
    cells = _Cells(np.concatenate(stored))
    for index in timeline.order:
        if index in rows:
            _check(index, instructions[index], cells.of(rows[index]), cells, timeline)


def _check(
    index: int, instruction: Instruction, touched: NDArray[np.int64], cells: _Cells, timeline: Timeline
) -> None:
    if not touched.size:
        return
    before, place, module = timeline.before[index], timeline.place[index], module_of(instruction)
    if isinstance(instruction, Store):
        for reader in (Module.LOAD, Module.COMPUTE):
            if (cells.read[reader, touched] > before[reader]).any():
                raise CheckFailure(index, "dram-race", f"stores over bytes that {reader.name} may still load")
        cells.written[touched] = place
        return
    if isinstance(instruction, Load) and instruction.memory == Memory.UOP:
        raise CheckFailure(index, "uop-stored", "loads micro-ops from bytes that the program stores to")
    if (cells.written[touched] > before[Module.STORE]).any():
        raise CheckFailure(index, "dram-race", "loads bytes whose STORE it does not wait for")
    cells.read[module, touched] = place


def _rows(move: Load | Store, config: Config) -> Rows:
    """The bytes of DRAM that a transfer touches, rows that follow each other as one."""
    size = config.element_bytes(move.memory)
    if move.x_stride == move.x_size:
        return np.array([[move.dram, move.dram + move.y_size * move.x_size]], np.int64) * size
    starts = move.dram + np.arange(move.y_size, dtype=np.int64) * move.x_stride
    return np.stack([starts, starts + move.x_size], axis=1) * size


class _Cells:
    """The bytes that are ever stored, cut where rows begin and end; who used each cell last."""

    def __init__(self, stored: Rows) -> None:
        self.edges = np.unique(stored)
        cells = self.edges.size
        self.written = np.zeros(cells, np.int64)
        self.read = np.zeros((2, cells), np.int64)
        covered = np.zeros(cells + 1, np.int64)
        np.add.at(covered, np.searchsorted(self.edges, stored[:, 0]), 1)
        np.add.at(covered, np.searchsorted(self.edges, stored[:, 1]), -1)
        self.covered = np.cumsum(covered)[:-1] > 0

    def of(self, rows: Rows) -> NDArray[np.int64]:
        """The stored cells that `rows` touch."""
        first = np.searchsorted(self.edges, rows[:, 0], side="right") - 1
        last = np.searchsorted(self.edges, rows[:, 1], side="left")
        spans = [np.arange(max(a, 0), b) for a, b in zip(first, last, strict=True) if b > max(a, 0)]
        touched = np.unique(np.concatenate(spans)) if spans else np.zeros(0, np.int64)
        return touched[self.covered[touched]]
