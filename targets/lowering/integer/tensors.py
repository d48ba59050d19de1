"""Tensor expressions: constants, broadcasting, and windows over padded codes. Imports TVM: load it late."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray
from tvm import relax, te, tirx

from optc.passes.quantize.integer.ops import Window
from optc.passes.quantize.integer.windows import leads, output_size, padding, reaches

Array = NDArray[Any]

Given = Mapping[str, Any]
"""Constants by name: a scalar, or a tensor that broadcasts, right-aligned, against the result."""


def constants(**arrays: Array | None) -> dict[str, Any]:
    """The arrays as arguments of `emit_te`, those that are None left out."""
    given = {name: np.ascontiguousarray(a) for name, a in arrays.items() if a is not None}
    return {name: relax.const(a, str(a.dtype)) for name, a in given.items()}  # int32 of int64 else


def at(tensor: Any, index: Sequence[Any]) -> Any:
    """The element of `tensor` that broadcasts, right-aligned, to `index` of the result."""
    rank = len(tensor.shape)
    places = zip(tensor.shape, index[len(index) - rank :], strict=True)
    return tensor[tuple(tirx.const(0, "int64") if is_one(size) else i for size, i in places)]


def is_one(size: Any) -> bool:
    """Whether a dimension is known to be 1."""
    return isinstance(size, int | tirx.IntImm) and int(size) == 1


def broadcast(*shapes: Sequence[Any]) -> list[Any]:
    """The shape that `shapes` broadcast to; of free dimensions, one that is not known to be 1 wins."""
    rank = max(len(s) for s in shapes)
    padded = [[1] * (rank - len(s)) + list(s) for s in shapes]
    return [next((d for d in dims if not is_one(d)), dims[0]) for dims in zip(*padded, strict=True)]


def spatial(x: Any, window: Window) -> list[Any]:
    """The output's spatial sizes. Where one is free, pads are written out and `ceil_mode` is off."""
    sizes = list(x.shape[2:])
    if all(isinstance(s, tirx.IntImm) for s in sizes):
        return list(output_size(window, [int(s) for s in sizes]))
    axes = zip(sizes, padding(window, ()), reaches(window), window.strides, strict=True)
    if window.transposed:
        return [
            (size - 1) * stride + (reach - sum(pads) + more)
            for (size, pads, reach, stride), more in zip(axes, window.extra, strict=True)
        ]
    return [tirx.floordiv(size + sum(pads) - reach, stride) + 1 for size, pads, reach, stride in axes]


def padded(x: Any, window: Window, fill: int) -> Any:
    """`x` [n, c, *spatial] with `fill` around it, as far as the windows reach."""
    sizes = list(x.shape[2:])
    widths = _widths(x, window)
    if not any(before or after for before, after in widths):
        return x
    shape = [*x.shape[:2], *(s + before + after for s, (before, after) in zip(sizes, widths, strict=True))]

    def element(*index: Any) -> Any:
        inner = [i - before for i, (before, _) in zip(index[2:], widths, strict=True)]
        inside = [c for i, s in zip(inner, sizes, strict=True) for c in (i >= 0, i < s)]
        return tirx.if_then_else(tirx.all(*inside), x[(*index[:2], *inner)], tirx.const(fill, x.dtype))

    return te.compute(shape, element, name="pad")


def spread_input(x: Any, window: Window, fill: int) -> Any:
    """As `windows.spread`, of a Relax tensor."""
    sizes = list(x.shape[2:])
    room = [n + r - 1 for n, r in zip(spatial(x, window), reaches(window), strict=True)]

    def element(*index: Any) -> Any:
        places = [i - lead for i, lead in zip(index[2:], leads(window), strict=True)]
        inside: list[Any] = []
        for place, size, stride in zip(places, sizes, window.strides, strict=True):
            inside += [place >= 0, place < size * stride, tirx.floormod(place, stride) == 0]
        inner = [tirx.floordiv(p, stride) for p, stride in zip(places, window.strides, strict=True)]
        return tirx.if_then_else(tirx.all(*inside), x[(*index[:2], *inner)], tirx.const(fill, x.dtype))

    return te.compute([*x.shape[:2], *room], element, name="spread")


def _widths(x: Any, window: Window) -> list[tuple[int, int]]:
    """What windows read before and after each spatial axis of `x`."""
    if not all(isinstance(s, tirx.IntImm) for s in x.shape[2:]):
        return padding(window, ())
    sizes = [int(s) for s in x.shape[2:]]
    axes = zip(
        sizes,
        padding(window, sizes),
        output_size(window, sizes),
        window.strides,
        reaches(window),
        strict=True,
    )
    return [
        (before, max((count - 1) * stride + reach - size - before, 0))
        for size, (before, _), count, stride, reach in axes
    ]


def under(window: Window, position: Sequence[Any], offset: Sequence[Any]) -> list[Any]:
    """Where in padded axes a window at `position` reads its entry `offset`."""
    steps = zip(position, window.strides, offset, window.dilations, strict=True)
    return [p * stride + o * dilation for p, stride, o, dilation in steps]
