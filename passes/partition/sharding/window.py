"""Sliding windows along one axis: what a piece of the output reads, and the padding that it sees."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from math import ceil

from optc.passes.analysis.shapes import Dim
from optc.passes.partition.sharding.layout import Range
from optc.passes.partition.sharding.op import Op


@dataclass(frozen=True)
class Window:
    """A window of `extent` elements that moves by `stride` over `size` ones with `pad` before them.

    `transposed`: input and output change places, as in ConvTranspose.
    """

    size: int
    extent: int
    stride: int
    pad: int
    transposed: bool = False

    def reads(self, out: Range) -> Range:
        """The range of the input that elements `out` of the output need; empty where that is padding."""
        start, stop = out
        if self.transposed:
            first = -((self.extent - 1 - start - self.pad) // self.stride)  # rounded up
            first = min(first, (start + self.pad) // self.stride)
            return max(0, first), min(self.size, (stop - 1 + self.pad) // self.stride + 1)
        last = (stop - 1) * self.stride + self.extent - self.pad
        return max(0, start * self.stride - self.pad), min(self.size, last)

    def pads(self, out: Range) -> tuple[int, int]:
        """Padding before and after the range that `reads` gives.

        Of a transposed window, what is cropped; below 0, what is added to its end.
        """
        start, stop = out
        low, high = self.reads(out)
        if self.transposed:
            before = start + self.pad - low * self.stride
            return before, (high - 1 - low) * self.stride + self.extent - before - (stop - start)
        return (
            low - (start * self.stride - self.pad),
            (stop - 1) * self.stride + self.extent - self.pad - high,
        )


def windows(op: Op) -> list[Window | None]:
    """The window of each spatial axis of Conv, ConvTranspose or a pooling; None where it is not known."""
    rank = op.rank(0)
    if rank is None or rank < 3:
        return []
    axes = rank - 2
    kernel: Sequence[Dim] = op.ints("kernel_shape") or [op.dim(1, 2 + i) for i in range(axes)]
    strides = op.ints("strides") or [1] * axes
    dilations = op.ints("dilations") or [1] * axes
    found: list[Window | None] = []
    for i, size, width in zip(range(axes), op.ins[0][2:], kernel, strict=True):  # type: ignore[index]
        if not isinstance(size, int) or not isinstance(width, int):
            found.append(None)
            continue
        extent = (width - 1) * dilations[i] + 1
        pad = _begin(op, i, axes, size, extent, strides[i])
        found.append(None if pad is None else Window(size, extent, strides[i], pad, _is_transposed(op)))
    return found


def _is_transposed(op: Op) -> bool:
    return op.kind == "ConvTranspose"


def _begin(op: Op, i: int, axes: int, size: int, extent: int, stride: int) -> int | None:
    """The padding before spatial axis `i`."""
    kind = op.attrs.get("auto_pad", "NOTSET")
    if kind == "NOTSET":
        return (op.ints("pads") or [0] * 2 * axes)[i]
    if kind == "VALID":
        return 0
    if _is_transposed(op):
        return None
    total = max((ceil(size / stride) - 1) * stride + extent - size, 0)
    return total // 2 if kind == "SAME_UPPER" else total - total // 2
