"""Samples are read one batch at a time and refused with one clear line."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from optc.models.data import Samples, load_arrays
from optc.models.errors import InputError


@given(
    array=hnp.arrays(np.float32, st.tuples(st.integers(1, 9), st.integers(0, 3)), elements=st.just(1.5)),
    size=st.integers(1, 10),
    limit=st.none() | st.integers(1, 12),
    compressed=st.booleans(),
)
def test_batches_are_the_array(
    tmp_path_factory: pytest.TempPathFactory,
    array: np.ndarray,
    size: int,
    limit: int | None,
    compressed: bool,
) -> None:
    array = array + np.arange(len(array), dtype=np.float32)[:, None]
    path = tmp_path_factory.mktemp("npz") / "a.npz"
    (np.savez_compressed if compressed else np.savez)(path, x=array, label=np.arange(len(array)))
    samples = Samples(path)
    batches = [b["x"] for b in samples.batches(["x"], size, limit)]
    np.testing.assert_array_equal(np.concatenate(batches), array[:limit])
    assert all(len(b) <= size for b in batches)
    np.testing.assert_array_equal(samples.labels, np.arange(len(array)))


def test_what_is_no_npz(tmp_path: Path) -> None:
    path = tmp_path / "a.npz"
    with pytest.raises(InputError, match="cannot be read"):
        Samples(path)
    path.write_bytes(b"not a zip")
    with pytest.raises(InputError, match="not an .npz file"):
        Samples(path)
    with pytest.raises(InputError, match="not an .npz file"):
        load_arrays(path)


def test_objects_are_never_unpickled(tmp_path: Path) -> None:
    np.savez(tmp_path / "a.npz", x=np.array([{}, {}], dtype=object))
    with pytest.raises(InputError, match="never read"):
        Samples(tmp_path / "a.npz")
    with pytest.raises(InputError, match="not an .npz file"):
        load_arrays(tmp_path / "a.npz")


def test_lengths_differ(tmp_path: Path) -> None:
    np.savez(tmp_path / "a.npz", x=np.zeros((3, 2)), z=np.zeros((4, 2)))
    with pytest.raises(InputError, match="same number of samples"):
        Samples(tmp_path / "a.npz")


def test_missing_names(tmp_path: Path) -> None:
    np.savez(tmp_path / "a.npz", x=np.zeros((3, 2)))
    samples = Samples(tmp_path / "a.npz")
    with pytest.raises(InputError, match="no array 'y' .it has x"):
        next(samples.batches(["y"]))
    with pytest.raises(InputError, match="no array 'label'"):
        _ = samples.labels


def test_cut_short(tmp_path: Path) -> None:
    path = tmp_path / "a.npz"
    np.savez(path, x=np.zeros((300, 20)))
    path.write_bytes(path.read_bytes()[:5000])
    with pytest.raises(InputError, match="not an .npz file"):
        Samples(path)
