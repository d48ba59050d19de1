"""Folding kernel taps into channels: what the host does for a convolution of few channels.

A convolution of 3 channels leaves 13 of 16 lanes idle. Where its input comes from the host, the host writes
for each output column what the kernel's columns read (and, with `rows`, its rows) side by side as channels.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
from numpy.typing import NDArray

from optc.passes.quantize.integer.ops import Window
from optc.passes.quantize.integer.windows import output_size, padding
from optc.targets.vta.compiler.stages import Axis, Extent
from optc.targets.vta.compiler.values import Layout, image_layout
from optc.targets.vta.config import Config

Array = NDArray[Any]

_PASSES = 5
"""ALU passes and the like on each output; only to compare."""


@dataclass(frozen=True)
class Folded:
    """The layout of an image [n, c, y, x] whose channels are (ky, kx, c) or (kx, c) of a window's taps."""

    shape: tuple[int, ...]
    window: Window
    rows: bool

    @cached_property
    def layout(self) -> Layout:
        """The layout of the folded image."""
        n, c, y, _ = self.shape
        height, width = output_size(self.window, self.shape[2:])
        taps = self.window.kernel[1] * (self.window.kernel[0] if self.rows else 1)
        return image_layout((n, c * taps, height if self.rows else y, width))

    def extent(self, config: Config) -> Extent:
        """As `Layout.extent`."""
        return self.layout.extent(config)

    def pack(self, array: Array, config: Config) -> NDArray[np.int8]:
        """As `Layout.pack`, of the array of `shape`."""
        height, width = output_size(self.window, self.shape[2:])
        pads = padding(self.window, self.shape[2:])
        x = np.stack([_moved(array, 3, k, width, self.window, pads) for k in range(self.window.kernel[1])], 1)
        if self.rows:
            tall = range(self.window.kernel[0])
            x = np.stack([_moved(x, 3, k, height, self.window, pads, 0) for k in tall], 1)
        return self.layout.pack(x.reshape(self.layout.shape), config)


def _moved(
    x: Array,
    axis: int,
    tap: int,
    count: int,
    window: Window,
    pads: Sequence[tuple[int, int]],
    spatial: int = 1,
) -> Array:
    """What `tap` reads for each of `count` outputs along an axis; zeros outside."""
    at = np.arange(count) * window.strides[spatial] + tap * window.dilations[spatial] - pads[spatial][0]
    inside = (at >= 0) & (at < x.shape[axis])
    found = np.take(x, np.clip(at, 0, x.shape[axis] - 1), axis=axis)
    keep = inside.reshape([-1 if a == axis else 1 for a in range(x.ndim)])
    return np.asarray(np.where(keep, found, 0).astype(x.dtype))


def fold(
    weight: Array, window: Window, shape: tuple[int, ...], block: int
) -> tuple[Folded, Array, tuple[Axis, Axis]] | None:
    """The folding that costs least, with the weight and the axes that go with it; None where none pays.

    `weight`: [co, c, ky, kx]; `shape`: of the input [n, c, y, x].
    """
    co, c, tall, wide = weight.shape
    height, width = output_size(window, shape[2:])
    outs, every = -(-co // block), shape[2] / height

    def cost(steps: int, beats: float) -> tuple[float, float]:
        return max((steps + _PASSES) * outs, beats), beats

    plain = -(-c // block)
    costs = {
        None: cost(tall * wide * plain, 2 * plain * shape[2] * shape[3] / (height * width)),
        False: cost(tall * -(-c * wide // block), 2 * -(-c * wide // block) * every),
        True: cost(-(-c * wide * tall // block), 2 * -(-c * wide * tall // block)),
    }
    best = min(costs, key=lambda k: costs[k])
    if best is None:
        return None
    folded = Folded(shape, window, best)
    columns = Axis(width)
    if best:
        moved = weight.transpose(0, 2, 3, 1).reshape(co, -1, 1, 1)
        return folded, moved, (Axis(height), columns)
    moved = weight.transpose(0, 3, 1, 2).reshape(co, wide * c, tall, 1)
    before = padding(window, shape[2:])[0][0]
    rows = Axis(shape[2], tall, window.strides[0], window.dilations[0], before)
    return folded, moved, (rows, columns)
