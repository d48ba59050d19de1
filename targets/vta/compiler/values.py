"""Tensors as VTA's memory holds them: blocks of channels, elements of BATCH × BLOCK bytes."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from optc.targets.vta.compiler.stages import Extent
from optc.targets.vta.config import Config

Array = NDArray[Any]
Axes = tuple[int, ...]


@dataclass(frozen=True)
class Layout:
    """How a tensor of `shape` lies in elements: which axes are images, channels, rows and columns.

    `axes`: for each of the four the axes of the tensor, the slowest first; none where the size is 1.
    """

    shape: tuple[int, ...]
    axes: tuple[Axes, Axes, Axes, Axes]

    @property
    def sizes(self) -> tuple[int, int, int, int]:
        """Images, channels, rows, columns."""
        n, c, y, x = (math.prod(self.shape[a] for a in axes) for axes in self.axes)
        return n, c, y, x

    def along(self, group: int, cuts: Mapping[int, tuple[int, int]]) -> tuple[int, int]:
        """First index and step along images, channels, rows or columns, given those of axes of the tensor."""
        axes = self.axes[group]
        if len(axes) == 1:
            return cuts.get(axes[0], (0, 1))
        return (0, 0) if any(a in cuts for a in axes) else (0, 1)

    def extent(self, config: Config) -> Extent:
        """The size in elements."""
        n, c, y, x = self.sizes
        return Extent(-(-n // config.batch), -(-c // config.block), y, x)

    def pack(self, array: Array, config: Config) -> NDArray[np.int8]:
        """int8 [images, blocks, rows, columns, BATCH, BLOCK] of an array of `shape`; zeros fill up."""
        n, c, y, x = self.sizes
        canonical = array.transpose(self._order).reshape(n, c, y, x)
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
        moved = canonical.reshape([self.shape[a] for a in self._order])
        return np.ascontiguousarray(moved.transpose(np.argsort(self._order)))

    @property
    def _order(self) -> list[int]:
        """All axes as they lie in memory; those of size 1 are named by none of the four."""
        named = [a for axes in self.axes for a in axes]
        return [*(a for a in range(len(self.shape)) if a not in named), *named]


@dataclass(frozen=True)
class Wide:
    """An int32 tensor as its `planes` low bytes: all blocks of the lowest, then of the next."""

    layout: Layout
    planes: int

    @property
    def shape(self) -> tuple[int, ...]:
        """Of the tensor."""
        return self.layout.shape

    def extent(self, config: Config) -> Extent:
        """The size in elements."""
        extent = self.layout.extent(config)
        return replace(extent, blocks=extent.blocks * self.planes)

    def unpack(self, data: NDArray[Any], config: Config) -> Array:
        """The int32 array of `shape`; the highest byte has the sign."""
        extent = self.layout.extent(config)
        planes = data.reshape(extent.images, self.planes, -1)
        parts = [self.layout.unpack(planes[:, k], config).astype(np.int32) for k in range(self.planes)]
        total = parts[-1] << 8 * (self.planes - 1)
        for k, part in enumerate(parts[:-1]):
            total |= (part & 0xFF) << 8 * k
        return np.asarray(total)


@dataclass(frozen=True)
class Matrices:
    """Matrices [..., k, n] that the host gives as weight blocks, [image, block of n, block of k]."""

    shape: tuple[int, ...]

    def blocks(self, config: Config) -> tuple[int, int]:
        """Blocks of n and of k."""
        k, n = self.shape[-2:]
        return -(-n // config.block), -(-k // config.block)

    def extent(self, config: Config) -> Extent:
        """The size in elements of INP."""
        across, down = self.blocks(config)
        count = math.prod(self.shape[:-2]) * across * down
        return Extent(1, 1, count, config.block // config.batch)

    def pack(self, array: Array, config: Config) -> NDArray[np.int8]:
        """int8 [images, blocks of n, blocks of k, BLOCK of n, BLOCK of k]; zeros fill up."""
        k, n = self.shape[-2:]
        across, down = self.blocks(config)
        given = array.reshape(-1, k, n)
        full = np.zeros((len(given), down * config.block, across * config.block), np.int8)
        full[:, :k, :n] = given
        parts = full.reshape(-1, down, config.block, across, config.block)
        return np.ascontiguousarray(parts.transpose(0, 3, 1, 4, 2))


def image_layout(shape: tuple[int, ...]) -> Layout:
    """[n, c], [n, c, x] or [n, c, y, x]: channels second. Of [n, c] the samples are columns."""
    if len(shape) == 2:
        return _layout(shape, (), (1,), (), (0,))
    return _layout(shape, (0,), (1,), tuple(range(2, len(shape) - 1)), (len(shape) - 1,))


def matrix_layout(shape: tuple[int, ...]) -> Layout:
    """[..., rows, channels], at most two axes before: channels last."""
    last = len(shape) - 1
    return _layout(shape, *((a,) if a >= 0 else () for a in (last - 3, last, last - 2, last - 1)))


def stack_layout(shape: tuple[int, ...]) -> Layout:
    """[..., rows, channels], each matrix an image."""
    last = len(shape) - 1
    return _layout(shape, tuple(range(last - 1)), (last,), (), (last - 1,))


def _layout(shape: tuple[int, ...], *axes: Axes) -> Layout:
    """Without the axes of size 1, so that layouts that are the same are equal."""
    n, c, y, x = (tuple(a for a in each if shape[a] > 1) for each in axes)
    return Layout(shape, (n, c, y, x))
