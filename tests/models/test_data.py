"""Samples are read one batch at a time and refused with one clear line."""

from __future__ import annotations

import tracemalloc
import zipfile
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


def parts(folder: Path, array: np.ndarray, cuts: list[int]) -> Samples:
    """The samples of `array`, cut into files, and labels that count them."""
    pieces = zip(np.split(array, cuts), np.split(np.arange(len(array)), cuts), strict=True)
    for index, (x, label) in enumerate(pieces):
        if len(x):
            np.savez(folder / f"{index:02}.npz", x=x, label=label)
    return Samples(folder)


@given(
    length=st.integers(1, 12),
    cuts=st.lists(st.integers(0, 12), max_size=4).map(sorted),
    size=st.integers(1, 6),
    limit=st.none() | st.integers(1, 14),
)
def test_a_folder_of_equal_shapes_is_one_file(
    tmp_path_factory: pytest.TempPathFactory, length: int, cuts: list[int], size: int, limit: int | None
) -> None:
    array = np.arange(2.0 * length).reshape(length, 2)
    folder = tmp_path_factory.mktemp("parts")
    samples = parts(folder, array, cuts)
    np.savez(folder.parent / "one.npz", x=array, label=np.arange(length))
    one = Samples(folder.parent / "one.npz")
    assert samples.length == length and samples.members == one.members
    np.testing.assert_array_equal(samples.labels, one.labels)
    found, wanted = (list(s.batches(["x", "label"], size, limit)) for s in (samples, one))
    assert len(found) == samples.batch_count(["x"], size, limit) == one.batch_count(["x"], size, limit)
    for a, b in zip(found, wanted, strict=True):
        np.testing.assert_equal(a, b)


def test_shapes_of_a_folder_may_differ(tmp_path: Path) -> None:
    for name, shape in {"b": (2, 5), "c": (3, 5), "a": (1, 7), "d": (1, 7)}.items():
        np.savez(tmp_path / f"{name}.npz", x=np.full(shape, ord(name)), label=np.zeros(shape[0], int))
    (tmp_path / "notes.txt").write_text("not read")
    samples = Samples(tmp_path)
    batches = [b["x"] for b in samples.batches(["x"], 4)]
    assert [b.shape for b in batches] == [(1, 7), (4, 5), (1, 5), (1, 7)]
    assert [chr(b[-1, 0]) for b in batches] == ["a", "c", "c", "d"]
    assert samples.batch_count(["x"], 4) == 4 and samples.length == 7
    assert [len(b["x"]) for b in samples.batches(["x"], 4, 4)] == [1, 3]
    assert [len(b["label"]) for b in samples.batches(["label"], 4)] == [4, 3]  # all of one shape


def test_samples_are_named_by_their_file(tmp_path: Path) -> None:
    samples = parts(tmp_path, np.zeros((7, 2)), [3, 3, 5])
    assert samples.place(0) == (tmp_path / "00.npz", "sample 0")
    assert samples.place(3) == (tmp_path / "02.npz", "sample 0")
    assert samples.place(5, 2) == (tmp_path / "03.npz", "samples 0 to 1")
    assert samples.place(4, 2) == (tmp_path, "samples 4 to 5")


def test_files_of_a_folder_have_to_be_alike(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="a folder without .npz files"):
        Samples(tmp_path)
    np.savez(tmp_path / "a.npz", x=np.zeros((3, 2)))
    np.savez(tmp_path / "b.npz", x=np.zeros((3, 2)), z=np.zeros(3))
    with pytest.raises(InputError, match="b.npz: has the arrays x, z, a.npz has x"):
        Samples(tmp_path)
    np.savez(tmp_path / "b.npz", x=np.zeros((3, 2), np.float32))
    with pytest.raises(InputError, match=r"b.npz: array 'x' is float32 \[3, 2\], in a.npz float64"):
        Samples(tmp_path)
    np.savez(tmp_path / "b.npz", x=np.zeros((3, 2, 1)))
    with pytest.raises(InputError, match=r"b.npz: array 'x' is float64 \[3, 2, 1\], in a.npz"):
        Samples(tmp_path)


def test_labels_of_several_shapes(tmp_path: Path) -> None:
    for length in (3, 4):
        np.savez(tmp_path / f"{length}.npz", x=np.zeros((2, length)), label=np.zeros((2, length), int))
    with pytest.raises(InputError, match="labels of different shapes"):
        _ = Samples(tmp_path).labels


def test_an_array_that_is_there_twice(tmp_path: Path) -> None:
    np.savez(tmp_path / "a.npz", x=np.zeros((3, 2)))
    with zipfile.ZipFile(tmp_path / "a.npz", "a") as archive, pytest.warns(UserWarning, match="Duplicate"):
        archive.writestr("x.npy", archive.read("x.npy"))
    with pytest.raises(InputError, match="holds the array 'x' twice"):
        Samples(tmp_path / "a.npz")


def test_damaged_data_is_named(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    np.savez_compressed(tmp_path / "a.npz", x=rng.integers(0, 5, (3000, 20)))
    data = bytearray((tmp_path / "a.npz").read_bytes())
    data[len(data) // 2] ^= 0xFF
    (tmp_path / "a.npz").write_bytes(data)
    with pytest.raises(InputError, match="array 'x' is damaged"):
        list(Samples(tmp_path / "a.npz").batches(["x"], 10))


def test_memory_holds_one_batch(tmp_path: Path) -> None:
    for index in range(4):
        np.savez(tmp_path / f"{index}.npz", x=np.zeros((500, 250 + index // 2)))
    tracemalloc.start()
    for batch in Samples(tmp_path).batches(["x"], 8):
        del batch
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert peak < 500 * 250 * 8 / 2
