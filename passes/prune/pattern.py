"""Patterns of zeros: single weights, N of M neighbours, or blocks."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Any

import onnx_graphsurgeon as gs
from numpy.typing import NDArray

from optc.models.errors import InputError
from optc.passes.prune.masks import Mask, block_sums, block_totals, lowest_of_groups, spread_blocks

Array = NDArray[Any]

_LARGEST = 2**20
"""Weights of a block: layers are padded to whole ones."""


@dataclass(frozen=True)
class Pattern:
    """How zeros lie. `keep` of each `of` weights that are summed stay (N:M), or `rows` x `columns` go
    together.

    Rows are output channels, columns the channels that are summed, at each place of a kernel by itself: as
    the blocks of VTA and the sparse tensor cores of NVIDIA's GPUs have it. Single weights are blocks of 1 x
    1.
    """

    keep: int = 0
    of: int = 0
    rows: int = 1
    columns: int = 1

    @classmethod
    def parse(cls, text: str) -> Pattern:
        """`single`, `N:M` such as `2:4`, or `RxC` such as `16x16`; `InputError` for anything else."""
        if text == "single":
            return cls()
        groups = re.fullmatch(r"([1-9]\d*):([1-9]\d*)", text)
        if groups and int(groups[1]) < int(groups[2]):
            return cls(keep=int(groups[1]), of=int(groups[2]))
        blocks = re.fullmatch(r"([1-9]\d*)x([1-9]\d*)", text)
        if blocks and int(blocks[1]) * int(blocks[2]) > _LARGEST:
            raise InputError(f"prune: a block of pattern '{text}' has more than {_LARGEST} weights")
        if blocks:
            return cls(rows=int(blocks[1]), columns=int(blocks[2]))
        raise InputError(
            f"prune: pattern '{text}' is none; it takes single, N:M with N below M (2:4), or RxC (16x16)"
        )

    def outside(self, scores: Array) -> Mask:
        """Of N:M: which weights go, for scores [places, output channels, channels that are summed]."""
        return lowest_of_groups(scores, self.keep, self.of)

    def sums(self, scores: Array) -> Array:
        """The scores of the blocks, for such scores of weights; those of smaller blocks scaled up."""
        return block_sums(self._folded(scores), self.rows, self.columns)

    def totals(self, values: Array) -> Array:
        """The sum of `values`, such ones of weights, over each block."""
        return block_totals(self._folded(values), self.rows, self.columns)

    def spread(self, blocks: Mask, shape: tuple[int, ...]) -> Mask:
        """Blocks as weights, of `shape`."""
        folded = self._folded_shape(shape)
        spread = spread_blocks(blocks, self.rows, self.columns, folded)
        return spread if folded == shape else _unfolded(spread, shape)

    def _folded(self, scores: Array) -> Array:
        """Where there are fewer channels than a block is wide, the places of the kernel are columns, too."""
        folded = self._folded_shape(scores.shape)
        return scores if folded == scores.shape else scores.transpose(1, 0, 2).reshape(folded)

    def _folded_shape(self, shape: tuple[int, ...]) -> tuple[int, ...]:
        places, outputs, channels = shape
        return shape if channels >= self.columns else (1, outputs, places * channels)


def _unfolded(values: Array, shape: tuple[int, ...]) -> Array:
    places, outputs, channels = shape
    return values.reshape(outputs, places, channels).transpose(1, 0, 2)


def arranged(node: gs.Node, index: int, weight: Array) -> Array:
    """The weight at input `index` of a layer as [places of the kernel, output channels, channels that are
    summed].

    A stack of matrices counts as places.
    """
    if node.op in ("Conv", "ConvTranspose"):
        flat = weight.reshape(*weight.shape[:2], -1).transpose(2, 0, 1)
        return flat if node.op == "Conv" else flat.transpose(0, 2, 1)
    stack = weight.reshape(-1, *weight.shape[-2:])
    return stack.transpose(0, 2, 1) if _summed_first(node, index) else stack


def restored(node: gs.Node, index: int, values: Array, shape: tuple[int, ...]) -> Array:
    """The inverse of `arranged`, for a weight of `shape`."""
    if node.op in ("Conv", "ConvTranspose"):
        flat = values if node.op == "Conv" else values.transpose(0, 2, 1)
        return flat.transpose(1, 2, 0).reshape(shape)
    return (values.transpose(0, 2, 1) if _summed_first(node, index) else values).reshape(shape)


def _summed_first(node: gs.Node, index: int) -> bool:
    """Whether a matrix is [summed, output channels]."""
    return bool(node.attrs.get("transB" if index else "transA", 0)) != (index == 1)
