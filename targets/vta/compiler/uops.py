"""Micro-ops: a store of sequences in DRAM, and which of them are on the chip."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Hashable, Sequence

import numpy as np
from numpy.typing import NDArray

Words = NDArray[np.uint32]
Sequences = dict[Hashable, Words]


class UopMemory:
    """A ring of micro-ops on the chip; what is asked for again and still there is not loaded again."""

    def __init__(self, depth: int) -> None:
        self.depth = depth
        self.table: list[Words] = []
        self.size = 0
        self._at: OrderedDict[Hashable, tuple[int, int]] = OrderedDict()
        self._known: dict[Hashable, int] = {}
        self._next = 0
        self._pinned: tuple[set[Hashable], set[Hashable]] = (set(), set())

    def place(self, key: Hashable) -> int:
        """Where the sequence `key` is on the chip."""
        return self._at[key][0]

    def request(self, wanted: Sequences) -> list[tuple[int, int, int]] | None:
        """Make room for `wanted`; the loads (on the chip, in DRAM, count) that bring what is missing.

        None where that would overwrite what the request before this one wants. `forget` allows it.
        """
        missing = [k for k in wanted if k not in self._at]
        count = sum(wanted[k].size for k in missing)
        if count > self.depth:
            raise ValueError(f"{count} micro-ops at once, there is room for {self.depth}")
        start = self._next if self._next + count <= self.depth else 0
        lost = [k for k, (a, b) in self._at.items() if missing and a < start + count and start < b]
        pinned = self._pinned[1]
        if any(k in pinned for k in lost):
            return None
        kept_but_lost = [k for k in lost if k in wanted]
        if kept_but_lost:
            for key in lost:
                del self._at[key]
            return self.request(wanted)
        for key in lost:
            del self._at[key]
        self._pinned = (self._pinned[1], set(wanted))
        return self._bring(missing, wanted, start) if missing else []

    def forget(self) -> None:
        """Nothing has to stay for an earlier request any more."""
        self._pinned = (set(), set())

    def _bring(
        self, missing: Sequence[Hashable], wanted: Sequences, start: int
    ) -> list[tuple[int, int, int]]:
        group = tuple(missing)
        at = start
        for key in missing:
            self._at[key] = (at, at + wanted[key].size)
            at += wanted[key].size
        self._next = at
        if group not in self._known:
            self._known[group] = self.size
            for key in missing:
                self.table.append(wanted[key])
                self.size += wanted[key].size
        return [(start, self._known[group], at - start)]
