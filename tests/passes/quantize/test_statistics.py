import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from optc.passes.quantize.statistics import BINS, Histogram, MinMax, Percentile

values = hnp.arrays(np.float32, st.integers(0, 30), elements=st.floats(-(2.0**40), 2.0**40, width=32))


def histogram(arrays: list[np.ndarray]) -> Histogram:
    found = Histogram()
    for array in arrays:
        found.add(array)
    return found


@given(st.lists(values, max_size=5), st.randoms())
def test_counts_do_not_depend_on_the_order(arrays: list[np.ndarray], random) -> None:
    one = histogram(arrays)
    shuffled = list(arrays)
    random.shuffle(shuffled)
    for other in (histogram(shuffled), histogram([np.concatenate([np.zeros(0, np.float32), *arrays])])):
        assert (one.counts == other.counts).all() and one.width == other.width
    assert one.counts.sum() == sum(a.size for a in arrays)


@given(st.lists(values, min_size=1, max_size=5))
def test_bins_hold_their_values(arrays: list[np.ndarray]) -> None:
    found = histogram(arrays)
    flat = np.concatenate(arrays).astype(np.float64)
    edges = (np.arange(BINS + 1) - BINS // 2) * found.width
    assert found.counts.tolist() == np.histogram(flat, edges)[0].tolist()
    if flat.any():
        assert np.abs(flat).max() < found.width * BINS / 2 <= 4 * np.abs(flat).max()


def test_percentile_leaves_out_the_tails() -> None:
    found = Percentile(98.0)
    found.add(np.linspace(-1, 1, 10_001, dtype=np.float32))
    low, high = found.range()
    assert low == pytest.approx(-0.98, abs=2e-3) and high == pytest.approx(0.98, abs=2e-3)


@given(st.lists(values, min_size=1, max_size=5), st.floats(50, 100))
def test_percentile_range_holds_its_share(arrays: list[np.ndarray], percentile: float) -> None:
    found = Percentile(percentile)
    for array in arrays:
        found.add(array)
    low, high = found.range()
    flat = np.concatenate(arrays)
    if flat.size:
        assert flat.min() <= low <= high <= flat.max()
        assert np.mean((flat >= low) & (flat <= high)) >= percentile / 100 - 1e-9


@given(st.lists(values, min_size=1, max_size=3))
def test_all_of_them_is_the_extremes(arrays: list[np.ndarray]) -> None:
    everything, extremes = Percentile(100), MinMax()
    for array in arrays:
        everything.add(array)
        extremes.add(array)
    assert everything.range() == extremes.range()


def test_nothing_seen() -> None:
    assert MinMax().range() == Percentile(99).range() == (0.0, 0.0)


def test_memory_is_constant() -> None:
    found = histogram([np.full(10, 2.0**k, np.float32) for k in range(100)])
    assert found.counts.shape == (BINS,)
