from __future__ import annotations

import numpy as np
import pytest

from optc.models.errors import InputError
from optc.targets.cluster.requests import joined, micro_batches
from optc.targets.feeds import Spec


def ends(first: int | str) -> tuple[list[Spec], list[Spec]]:
    shape: list[int | str | None] = [first, 3]
    return [Spec(name="x", dtype="float32", shape=shape)], [Spec(name="y", dtype="float32", shape=shape)]


@pytest.mark.parametrize(
    ("first", "given", "sizes"),
    [("N", 7, [2, 2, 3]), ("N", 2, [1, 1]), (2, 6, [2, 2, 2]), ("N", 0, [0]), (0, 0, [0])],
)
def test_a_batch_is_cut_and_joined(first: int | str, given: int, sizes: list[int]) -> None:
    inputs, outputs = ends(first)
    x = np.arange(given * 3, dtype=np.float32).reshape(given, 3)
    cut = micro_batches({"x": x}, inputs, outputs, 3)
    assert [len(request["x"]) for request in cut] == sizes
    np.testing.assert_equal(joined([{"y": request["x"]} for request in cut])["y"], x)


@pytest.mark.parametrize("given", [0, 3])
def test_samples_that_fill_no_micro_batch(given: int) -> None:
    with pytest.raises(InputError, match=f"takes 2 samples at once, {given} are given"):
        micro_batches({"x": np.zeros((given, 3), np.float32)}, *ends(2), 3)


def test_a_sample_without_axes() -> None:
    with pytest.raises(InputError, match="input 'x' has no axis of samples"):
        micro_batches({"x": np.float32(1)}, *ends("N"), 3)  # type: ignore[dict-item]
