"""What calibration remembers of a value: constant memory, however many samples go by."""

from __future__ import annotations

import math
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

Array = NDArray[Any]

BINS = 4096
"""Bins of a histogram, half of them below zero."""


class Statistics(Protocol):
    """Gathers arrays of one value and gives the range that its code is to span."""

    def add(self, values: Array) -> None:
        """Take in `values`, float, all finite, any shape."""
        ...

    def range(self) -> tuple[float, float]:
        """The range; (0, 0) where nothing was seen."""
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


def _exponent(reach: float) -> int:
    """The smallest exponent for which half the bins reach beyond `reach` > 0, but no subnormal width."""
    return max(math.frexp(reach)[1] - (BINS // 2).bit_length() + 1, -1000)
