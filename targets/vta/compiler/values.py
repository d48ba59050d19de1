"""Tensors as VTA's memory holds them: blocks of channels, elements of BATCH × BLOCK bytes."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from optc.targets.vta.compiler.stages import Extent
from optc.targets.vta.config import Config

Array = NDArray[Any]


@dataclass(frozen=True)
class Layout:
    """How a tensor of `shape` lies in elements: which axes are images, channels, rows and columns.

    `axes`: for each of the four the axis of the tensor, -1 where there is none (size 1).
    """

    shape: tuple[int, ...]
    axes: tuple[int, int, int, int]

    @property
    def sizes(self) -> tuple[int, int, int, int]:
        """Images, channels, rows, columns."""
        n, c, y, x = (self.shape[a] if a >= 0 else 1 for a in self.axes)
        return n, c, y, x

    def extent(self, config: Config) -> Extent:
        """The size in elements."""
        n, c, y, x = self.sizes
        return Extent(-(-n // config.batch), -(-c // config.block), y, x)

    def pack(self, array: Array, config: Config) -> NDArray[np.int8]:
        """int8 [images, blocks, rows, columns, BATCH, BLOCK] of an array of `shape`; zeros fill up."""
        n, c, y, x = self.sizes
        order = [a for a in self.axes if a >= 0]
        canonical = array.transpose(order).reshape(n, c, y, x)
        extent = self.extent(config)
        full = np.zeros((extent.images * config.batch, extent.blocks * config.block, y, x), np.int8)
        full[:n, :c] = canonical
        parts = full.reshape(extent.images, config.batch, extent.blocks, config.block, y, x)
        return np.ascontiguousarray(parts.transpose(0, 2, 4, 5, 1, 3))

    def unpack(self, data: NDArray[Any], config: Config) -> Array:
        """The array of `shape` from what `pack` gives."""
        n, c, y, x = self.sizes
        extent = self.extent(config)
        full = data.reshape(extent.images, extent.blocks, y, x, config.batch, config.block)
        full = full.transpose(0, 4, 1, 5, 2, 3)
        canonical = full.reshape(extent.images * config.batch, extent.blocks * config.block, y, x)[:n, :c]
        order = [a for a in self.axes if a >= 0]
        moved = canonical.reshape([self.shape[a] for a in order])
        return np.ascontiguousarray(moved.transpose(np.argsort(order)))


def image_layout(shape: tuple[int, ...]) -> Layout:
    """[n, c], [n, c, x] or [n, c, y, x]: channels second. Of [n, c] the samples are columns."""
    if len(shape) == 2:
        return Layout(shape, (-1, 1, -1, 0))
    return Layout(shape, (0, 1, 2 if len(shape) == 4 else -1, len(shape) - 1))


def matrix_layout(shape: tuple[int, ...]) -> Layout:
    """[..., rows, channels], at most two axes before: channels last."""
    rank = len(shape)
    if rank == 1:
        return Layout(shape, (-1, 0, -1, -1))
    return Layout(shape, (rank - 4 if rank > 3 else -1, rank - 1, rank - 3 if rank > 2 else -1, rank - 2))
