"""Sliding windows: padding, output sizes, and how many values an average counts (as ONNX defines them)."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from optc.passes.quantize.integer.ops import Window

Array = NDArray[Any]
Pairs = list[tuple[int, int]]


def padding(window: Window, sizes: Sequence[int]) -> Pairs:
    """(before, after) for each axis of the input's spatial `sizes`."""
    rank = len(window.kernel)
    if window.auto_pad == "NOTSET":
        return [(window.pads[axis], window.pads[rank + axis]) for axis in range(rank)]
    pairs: Pairs = []
    for size, reach, stride in zip(sizes, reaches(window), window.strides, strict=True):
        total = max((-(-size // stride) - 1) * stride + reach - size, 0)
        small, large = total // 2, total - total // 2
        pairs.append((small, large) if window.auto_pad == "SAME_UPPER" else (large, small))
    return pairs


def output_size(window: Window, sizes: Sequence[int]) -> tuple[int, ...]:
    """The output's spatial sizes. With `ceil_mode`, a last window may overhang, but starts in the input."""
    found: list[int] = []
    steps = zip(sizes, padding(window, sizes), reaches(window), window.strides, strict=True)
    for size, (before, after), reach, stride in steps:
        span = size + before + after - reach
        count = (-(-span // stride) if window.ceil_mode else span // stride) + 1
        if window.ceil_mode and (count - 1) * stride >= size + before:
            count -= 1
        found.append(count)
    return tuple(found)


def counts(window: Window, sizes: Sequence[int], count_pads: bool) -> Array:
    """How many values each position of an AveragePool counts: int64, of the output's spatial shape.

    With `count_pads` the padding counts, but not what overhangs it (ceil_mode).
    """
    result: Array = np.ones((), np.int64)
    axes = zip(sizes, padding(window, sizes), output_size(window, sizes), strict=True)
    for axis, (size, (before, after), out) in enumerate(axes):
        starts = np.arange(out)[:, None] * window.strides[axis] - before
        read = starts + np.arange(window.kernel[axis])[None, :] * window.dilations[axis]
        inside = read < size + after if count_pads else (read >= 0) & (read < size)
        result = np.multiply.outer(result, inside.sum(axis=1))
    return result


def slid(x: Array, window: Window, fill: int) -> Array:
    """Every window of `x` [n, c, *spatial]: a view [n, c, *output, *kernel]; what overhangs is `fill`."""
    sizes = x.shape[2:]
    out = output_size(window, sizes)
    pairs = padding(window, sizes)
    steps = zip(sizes, pairs, out, window.strides, reaches(window), strict=True)
    widths = [
        (before, max((count - 1) * stride + reach - size - before, after, 0))
        for size, (before, after), count, stride, reach in steps
    ]
    padded = np.pad(x, [(0, 0), (0, 0), *widths], constant_values=fill)
    spatial = tuple(range(2, x.ndim))
    views = np.lib.stride_tricks.sliding_window_view(padded, reaches(window), axis=spatial)
    every = tuple(slice(0, (c - 1) * s + 1, s) for c, s in zip(out, window.strides, strict=True))
    within = tuple(slice(None, None, d) for d in window.dilations)
    return np.asarray(views[(slice(None), slice(None), *every, *within)])


def reaches(window: Window) -> tuple[int, ...]:
    """How many values each axis of the kernel spans."""
    return tuple((k - 1) * d + 1 for k, d in zip(window.kernel, window.dilations, strict=True))
