"""The weights of a layer in the pieces that go together."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
from numpy.typing import NDArray

from optc.passes.prune.layers import Layer
from optc.passes.prune.masks import Mask, lowest
from optc.passes.prune.pattern import Pattern, arranged, restored

Array = NDArray[Any]


@dataclass(frozen=True, eq=False)
class Blocks:
    """A layer's blocks, or single weights, under a pattern that is not N:M.

    `scores`: of the layer's weights, [places, output channels, channels that are summed]; 0 for a zero.
    """

    layer: Layer
    pattern: Pattern
    scores: Array

    @cached_property
    def sums(self) -> Array:
        """The score of each block; the lowest go first."""
        return self.pattern.sums(self.scores)

    @cached_property
    def shares(self) -> Array:
        """In the order in which blocks go, each one's score as a share of its own and those still there.

        So scores of layers of any scale compare, and the last of a layer goes last: LAMP (Lee et al. 2021,
        arXiv 2010.07611).
        """
        scores = self.sums.reshape(-1)[self._order]
        left = np.cumsum(np.nan_to_num(scores, nan=0.0)[::-1], dtype=np.float64)[::-1]
        return np.where(np.isnan(scores), np.inf, scores / np.maximum(left, 1e-300))

    @cached_property
    def weights(self) -> Array:
        """How many weights of each block are not zero yet, in that order."""
        values = arranged(self.layer.node, self.layer.index, self.layer.weight.values != 0)
        return np.asarray(self.pattern.totals(values).reshape(-1)[self._order])

    @property
    def gone(self) -> int:
        """How many blocks are all zero already."""
        return int(np.count_nonzero(self.weights == 0))

    @cached_property
    def _order(self) -> Array:
        return np.argsort(np.where(np.isnan(self.sums), np.inf, self.sums).reshape(-1), kind="stable")

    def mask(self, count: int) -> Mask:
        """Which weights become zero where `count` blocks go: of the weight's shape."""
        spread = self.pattern.spread(lowest(self.sums, count), self.scores.shape)
        return restored(self.layer.node, self.layer.index, spread, self.layer.weight.values.shape)
