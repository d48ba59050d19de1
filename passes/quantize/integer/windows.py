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
    if window.transposed:
        ends = zip(sizes, window.strides, reaches(window), padding(window, sizes), window.extra, strict=True)
        return tuple((size - 1) * s + reach - sum(pads) + more for size, s, reach, pads, more in ends)
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


def spread(x: Array, window: Window, fill: int) -> Array:
    """The input [n, c, *spatial] of a transposed window, such that `plain` of it reads the same.

    Between the values stand `stride - 1` times `fill`, around them what `plain` has to find.
    """
    shape = [
        *x.shape[:2],
        *(n + r - 1 for n, r in zip(output_size(window, x.shape[2:]), reaches(window), strict=True)),
    ]
    result = np.full(shape, fill, x.dtype)
    source: list[slice] = [slice(None)] * 2
    target: list[slice] = [slice(None)] * 2
    for size, room, stride, before in zip(x.shape[2:], shape[2:], window.strides, leads(window), strict=True):
        first = max(0, -(before // stride))
        last = min(size, -((before - room) // stride))
        source.append(slice(first, max(first, last)))
        target.append(slice(before + first * stride, max(0, before + (last - 1) * stride + 1), stride))
    if all(s.stop > s.start for s in source[2:]):
        result[tuple(target)] = x[tuple(source)]
    return result


def leads(window: Window) -> list[int]:
    """Where the first value stands in what `spread` makes, for each axis; negative: it is cut off."""
    befores = window.pads[: len(window.kernel)]
    return [reach - 1 - before for reach, before in zip(reaches(window), befores, strict=True)]


def plain(window: Window) -> Window:
    """The window by which a convolution of `spread` with the kernel turned around is the transposed one."""
    rank = len(window.kernel)
    return Window(window.kernel, (1,) * rank, window.dilations, (0,) * 2 * rank)


def reaches(window: Window) -> tuple[int, ...]:
    """How many values each axis of the kernel spans."""
    return tuple((k - 1) * d + 1 for k, d in zip(window.kernel, window.dilations, strict=True))
