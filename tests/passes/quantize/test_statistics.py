import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from optc.passes.quantize.scales import Code, activation_code
from optc.passes.quantize.statistics import (
    BINS,
    Histogram,
    MinMax,
    Percentile,
    Searched,
    divergence,
    squared_error,
)

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


KINDS = st.tuples(st.sampled_from(["int8", "uint8"]), st.booleans())
ANY = hnp.arrays(np.float32, st.integers(1, 300), elements=st.floats(-100, 100, width=32))


def error(values: np.ndarray, code: Code) -> float:
    return float(np.sum(np.square(code.dequantize(code.quantize(values)) - values, dtype=np.float64)))


@given(ANY, KINDS)
def test_searched_ranges_lie_in_what_was_seen(values: np.ndarray, kind: tuple[str, bool]) -> None:
    def code(low: float, high: float) -> Code:
        return activation_code(low, high, np.dtype(kind[0]), kind[1])

    for loss in (squared_error, divergence):
        searched = Searched(code, loss)
        for part in np.array_split(values, 3):
            searched.add(part)
        low, high = searched.range()
        assert values.min() <= low <= high <= values.max()
        again = Searched(code, loss)
        again.add(values[::-1])
        assert again.range() == (low, high)


def test_the_least_squared_error_clips_what_is_rare() -> None:
    values = np.random.default_rng(0).standard_normal(200_000).astype(np.float32)
    values[0] = 40

    def code(low: float, high: float) -> Code:
        return activation_code(low, high, np.dtype(np.int8), False)

    for loss, most in ((squared_error, 0.5), (divergence, 1.0)):
        searched = Searched(code, loss)
        searched.add(values)
        assert searched.range()[1] < 30
        assert error(values, code(*searched.range())) < most * error(values, code(values.min(), values.max()))


def test_powers_of_two_may_clip_half_the_range() -> None:
    values = np.concatenate([np.linspace(0, 1, 5000), [1.1]]).astype(np.float32)

    def code(low: float, high: float) -> Code:
        return activation_code(low, high, np.dtype(np.uint8), True)

    searched = Searched(code, squared_error)
    searched.add(values)
    assert code(*searched.range()).scale == 2**-8
    assert code(values.min(), values.max()).scale == 2**-7
