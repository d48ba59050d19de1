"""What a region's stages share: the instruction stream, slots on the chip, and what stands in DRAM."""

from __future__ import annotations

from collections.abc import Hashable, Mapping

import numpy as np
from numpy.typing import NDArray

from optc.targets.vta.compiler.stages import Operand, Term
from optc.targets.vta.compiler.stream import Stream
from optc.targets.vta.compiler.uops import UopMemory
from optc.targets.vta.config import Config, Memory


class Slots:
    """`count` places of `size` elements from `base` on, taken in turn; what is still there is found again."""

    def __init__(self, base: int, size: int, count: int) -> None:
        self.base, self.size, self.count = base, size, count
        self._keys: list[Hashable] = [None] * count
        self._next = 0

    def take(self, key: Hashable) -> tuple[int, bool]:
        """The place of `key`, and whether it is there already."""
        if key in self._keys:
            return self.base + self._keys.index(key) * self.size, True
        at, self._next = self._next, (self._next + 1) % self.count
        self._keys[at] = key
        return self.base + at * self.size, False


class Memories:
    """Where a program's parts go. Addresses of UOP and ACC in DRAM count from the start of their table.

    `addresses`: the first INP element in DRAM of each tensor; `weights_at`: the first WGT element of the
    table of constant weights. `last_tile`: the ACC elements of the tile that was begun last.
    """

    def __init__(
        self,
        config: Config,
        stream: Stream,
        uops: UopMemory,
        addresses: Mapping[str, int],
        weights_at: int = 0,
    ) -> None:
        self.config, self.stream, self.uops = config, stream, uops
        self.addresses = addresses
        self.weights: list[tuple[Term, NDArray[np.int64]]] = []
        self.vectors: list[NDArray[np.int32]] = []
        self.weights_at, self.weight_count = weights_at, 0
        self.vector_count = 0
        self.last_tile = (0, 0)

    def add_weights(self, term: Term, chosen: NDArray[np.int64]) -> int:
        """Put weight blocks of `term` into the table; where."""
        at = self.weights_at + self.weight_count
        self.weights.append((term, chosen))
        self.weight_count += len(chosen)
        return at

    def operand(self, operand: Operand) -> int:
        """The first WGT element of a tensor."""
        sizes = (self.config.element_bytes(m) for m in (Memory.INP, Memory.WGT))
        return self.addresses[operand.source] * next(sizes) // next(sizes)

    def add_vectors(self, values: NDArray[np.int32]) -> int:
        """Put constants, int32 (blocks, BLOCK), into the table of ACC elements; where."""
        at = self.vector_count
        self.vectors.append(values)
        self.vector_count += len(values)
        return at

    def weight_table(self) -> NDArray[np.int8]:
        """All weight blocks, int8 (n, BLOCK, BLOCK)."""
        block = self.config.block
        parts = [term.constants[chosen] for term, chosen in self.weights]
        return np.concatenate(parts) if parts else np.zeros((0, block, block), np.int8)

    def vector_table(self) -> NDArray[np.int32]:
        """All constants, int32 (n, BATCH, BLOCK)."""
        rows = np.concatenate(self.vectors) if self.vectors else np.zeros((0, self.config.block), np.int32)
        return np.ascontiguousarray(np.repeat(rows[:, None, :], self.config.batch, axis=1))
