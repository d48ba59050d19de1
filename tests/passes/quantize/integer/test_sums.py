import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from optc.passes.quantize.integer.ops import Term
from optc.passes.quantize.integer.sums import exponents, shifts
from optc.passes.quantize.reference import requantize_sum, shift
from optc.passes.quantize.scales import Code

Y = Code(np.float32(0.5), 3, np.dtype(np.int8))


def term(scale: float, bound: int = 255) -> Term:
    return Term(np.asarray(scale, np.float32), 0, bound)


def test_exponents() -> None:
    found = exponents(np.array([1.0, 0.25, 8.0], np.float32))
    assert found is not None and found.tolist() == [0, -2, 3]
    assert exponents(np.array([1.0, 0.3], np.float32)) is None


def test_terms_are_shifted_to_the_finest_scale_of_their_channel() -> None:
    channels = Term(np.array([[0.25], [2.0]], np.float32), 0, 100)
    found = shifts([term(0.5), channels], Y)
    assert found is not None
    assert [left.tolist() for left in found.lefts] == [[[1], [0]], [[0], [2]]]
    assert found.bits.tolist() == [[1], [0]]


def test_no_shifts_for_free_scales_or_sums_that_may_overflow() -> None:
    assert shifts([term(0.3), term(0.5)], Y) is None
    assert shifts([term(1.0), term(0.5)], Code(np.float32(0.3), 0, np.dtype(np.int8))) is None
    assert shifts([term(2.0**30), term(0.5)], Y) is None
    assert shifts([term(1.0, 2**28), term(0.5, 2**29 - 1)], Y) is not None
    assert shifts([term(1.0, 2**28), term(0.5, 2**29)], Y) is None


@given(
    st.lists(st.tuples(st.integers(-8, 8), st.integers(-255, 255)), min_size=1, max_size=3),
    st.integers(-12, 12),
    st.sampled_from(["even", "half_up"]),
)
def test_shifts_give_what_float64_gives(terms: list[tuple[int, int]], target: int, rounding: str) -> None:
    code = Code(np.float32(2.0**target), 7, np.dtype(np.uint8))
    found = shifts([term(2.0**e) for e, _ in terms], code)
    assert found is not None
    total = sum(np.int64(k) << left for (_, k), left in zip(terms, found.lefts, strict=True))
    floats = [(np.float32(2.0**e), np.asarray(k)) for e, k in terms]
    assert shift(np.asarray(total), found.bits, code, rounding) == requantize_sum(floats, code, rounding)
