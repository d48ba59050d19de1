"""What calibration remembers of a value: constant memory, however many samples go by."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from optc.passes.quantize.scales import Code

Array = NDArray[Any]
Loss = Callable[[Array, Array, Code], float]

BINS = 4096
"""Bins of a histogram, half of them below zero."""

_SHARES = tuple(1 - step / 50 for step in range(36))
"""The shares of the seen range that are tried, the widest first."""


class Statistics(Protocol):
    """Gathers arrays of one value and gives the range that its code is to span."""

    def add(self, values: Array) -> None:
        """Take in `values`, float, all finite, any shape."""
        ...

    def range(self) -> tuple[float, float]:
        """The range; (0, 0) where nothing was seen."""
        ...

    def extremes(self) -> tuple[float, float]:
        """The smallest and the largest value seen; (0, 0) where nothing was."""
        ...


class MinMax:
    """The smallest and the largest value seen."""

    def __init__(self) -> None:
        self.low, self.high = math.inf, -math.inf

    def add(self, values: Array) -> None:
        """Take in `values`."""
        if values.size:
            self.low = min(self.low, float(values.min()))
            self.high = max(self.high, float(values.max()))

    def range(self) -> tuple[float, float]:
        """From the smallest to the largest."""
        return (self.low, self.high) if self.low <= self.high else (0.0, 0.0)

    def extremes(self) -> tuple[float, float]:
        """The same."""
        return self.range()


class Histogram:
    """A histogram whose range grows by doubling: the bins' width is a power of two, zero a bin's edge.

    Widening merges bins in pairs, so the counts depend only on the values seen, not on their order.
    """

    def __init__(self) -> None:
        self.counts = np.zeros(BINS, np.int64)
        self.exponent: int | None = None
        """The bins are 2**exponent wide."""
        self.seen = MinMax()

    @property
    def width(self) -> float:
        """The width of a bin."""
        return math.ldexp(1.0, self.exponent or 0)

    def add(self, values: Array) -> None:
        """Take in `values`."""
        if not values.size:
            return
        self.seen.add(values)
        reach = max(-self.seen.low, self.seen.high)
        if reach > 0:
            self._widen(_exponent(reach))
        scaled = np.floor(values.reshape(-1).astype(np.float64) / self.width).astype(np.int64)
        self.counts += np.bincount(scaled + BINS // 2, minlength=BINS)

    def _widen(self, exponent: int) -> None:
        """Make the bins at least 2**exponent wide."""
        if self.exponent is None:  # all values so far were zero: they lie in the bin right of zero
            self.exponent = exponent
        while self.exponent < exponent:
            merged = self.counts.reshape(-1, 2).sum(1)
            self.counts[:] = 0
            self.counts[BINS // 4 : 3 * BINS // 4] = merged
            self.exponent += 1

    def percentile_range(self, percentile: float) -> tuple[float, float]:
        """The range that holds `percentile` percent of the values, half of the rest beyond each end.

        Ends are bin edges, or the extreme values where those lie closer.
        """
        total = int(self.counts.sum())
        if total == 0:
            return 0.0, 0.0
        tail = total * (100.0 - percentile) / 200.0
        upward, downward = np.cumsum(self.counts), np.cumsum(self.counts[::-1])
        first = int(np.argmax(upward > tail)) - BINS // 2
        last = BINS // 2 - int(np.argmax(downward > tail))
        return max(first * self.width, self.seen.low), min(last * self.width, self.seen.high)


class Percentile:
    """The range that holds a given percentage of the values seen."""

    def __init__(self, percentile: float) -> None:
        self.percentile = percentile
        self.histogram = Histogram()

    def add(self, values: Array) -> None:
        """Take in `values`."""
        self.histogram.add(values)

    def range(self) -> tuple[float, float]:
        """Of the histogram."""
        return self.histogram.percentile_range(self.percentile)

    def extremes(self) -> tuple[float, float]:
        """Of the histogram."""
        return self.histogram.seen.range()


class Searched:
    """The range, among shrunken ones, whose code has the least `loss` on the histogram of the values seen.

    `code`: the code that spans a range; `loss(values, counts, code)`: what it costs, for bins by their
    middles.
    """

    def __init__(self, code: Callable[[float, float], Code], loss: Loss) -> None:
        self._code, self._loss = code, loss
        self.histogram = Histogram()

    def add(self, values: Array) -> None:
        """Take in `values`."""
        self.histogram.add(values)

    def range(self) -> tuple[float, float]:
        """Both ends shrunk alike first, then each by itself; of equal losses the widest range."""
        low, high = self.histogram.seen.range()
        filled = np.flatnonzero(self.histogram.counts)
        if not filled.size or low == high == 0:
            return low, high
        counts = self.histogram.counts[filled]
        middles = ((filled - BINS // 2 + 0.5) * self.histogram.width).clip(low, high)

        def best(tried: list[tuple[float, float]]) -> tuple[float, float]:
            return min(tried, key=lambda r: self._loss(middles, counts, self._code(*r)))

        low, high = best([(low * share, high * share) for share in _SHARES])
        low, high = best([(low * share, high) for share in _SHARES])
        return best([(low, high * share) for share in _SHARES])

    def extremes(self) -> tuple[float, float]:
        """Of the histogram."""
        return self.histogram.seen.range()


def squared_error(values: Array, counts: Array, code: Code) -> float:
    """The sum of squared errors of the codes."""
    x = values.astype(np.float32)
    return float(np.sum(counts * np.square((code.dequantize(code.quantize(x)) - x).astype(np.float64))))


def divergence(values: Array, counts: Array, code: Code) -> float:
    """How far the distribution of the codes is from that of the values: Kullback-Leibler, as TensorRT
    calibrates.

    Values beyond the range count as its ends; a code's share is spread evenly over the bins that have it.
    Bins at zero, which has a code of its own whatever the range, do not count. (S. Migacz, "8-bit inference
    with TensorRT", GTC 2017.)
    """
    away = np.abs(values) > np.abs(values).min() + 1e-30
    codes = code.quantize(values[away].astype(np.float32)).astype(np.int64) - code.limits[0]
    p = counts[away].astype(np.float64)
    mass = np.bincount(codes, p * _within(values[away], code), 256)
    bins = np.bincount(codes, minlength=256)
    q = mass[codes] / bins[codes]
    total_p, total_q = p.sum(), q.sum()
    if total_p == 0 or total_q == 0:
        return 0.0
    p, q = p / total_p, np.maximum(q / total_q, 1e-12)
    return float(np.sum(p * np.log(np.maximum(p, 1e-300) / q)))


def _within(values: Array, code: Code) -> Array:
    """Which values the codes reach; the reference distribution holds the others at its ends, the codes do
    not.
    """
    low, high = ((limit - code.zero_point) * float(code.scale) for limit in code.limits)
    return (values >= low - float(code.scale) / 2) & (values <= high + float(code.scale) / 2)


def _exponent(reach: float) -> int:
    """The smallest exponent for which half the bins reach beyond `reach` > 0, but no subnormal width."""
    return max(math.frexp(reach)[1] - (BINS // 2).bit_length() + 1, -1000)
