"""Weights are read, and files that ask for anything else are refused."""

import json
import os
import pickle
import struct
import sys
from collections import OrderedDict
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from optc.models.errors import InputError
from optc.models.zoo.checkpoints import read_numpy_pickle, read_safetensors, read_torch_legacy


class Malicious:
    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self) -> tuple[Any, ...]:
        return os.mkdir, (str(self.path),)


def test_numpy_pickle(tmp_path: Path) -> None:
    arrays = {
        "a": [np.arange(6, dtype=np.float32).reshape(2, 3), np.ones(2)],
        "b": [np.array([[1], [2]], ">i4")],
    }
    arrays["c"] = [np.asfortranarray(arrays["a"][0])]
    path = tmp_path / "weights.pkl"
    path.write_bytes(pickle.dumps(arrays, protocol=3))
    read = read_numpy_pickle(path)
    assert list(read) == ["a", "b", "c"]
    for name, expected in arrays.items():
        for got, want in zip(read[name], expected, strict=True):
            assert got.dtype == want.dtype
            np.testing.assert_array_equal(got, want)


@pytest.mark.parametrize("read", [read_numpy_pickle, read_torch_legacy])
def test_malicious_pickle_is_refused(read: Any, tmp_path: Path) -> None:
    path, made = tmp_path / "weights.pkl", tmp_path / "made"
    path.write_bytes(pickle.dumps({"a": [Malicious(made)]}))
    with pytest.raises(InputError, match=r"refused to unpickle: the file asks for (posix|nt)\.mkdir"):
        read(path)
    assert not made.exists()


def test_object_array_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "weights.pkl"
    path.write_bytes(pickle.dumps({"a": [np.array([None, 1], object)]}, protocol=3))
    with pytest.raises(InputError, match="an array of dtype O8"):
        read_numpy_pickle(path)


class _Tensor:
    """Pickles as torch's legacy format writes a tensor: a view of a storage."""

    def __init__(self, key: str, offset: int, shape: tuple[int, ...], strides: tuple[int, ...]) -> None:
        self.arguments = (_Storage(key), offset, shape, strides, False, OrderedDict())

    def __reduce__(self) -> tuple[Any, ...]:
        return sys.modules["torch._utils"]._rebuild_tensor_v2, self.arguments


class _Storage:
    def __init__(self, key: str) -> None:
        self.key = key


class _Pickler(pickle.Pickler):
    def persistent_id(self, obj: object) -> object:
        if isinstance(obj, _Storage):
            return "storage", sys.modules["torch"].FloatStorage, obj.key, "cpu", 6, None
        return None


def _rebuild_tensor_v2() -> None:
    """Stands for torch's function while pickling."""


@pytest.fixture
def torch_names(monkeypatch: pytest.MonkeyPatch) -> None:
    torch, utils = ModuleType("torch"), ModuleType("torch._utils")
    torch.FloatStorage = type("FloatStorage", (), {"__module__": "torch"})
    torch._utils = utils
    monkeypatch.setattr(_rebuild_tensor_v2, "__module__", "torch._utils")
    utils._rebuild_tensor_v2 = _rebuild_tensor_v2
    monkeypatch.setitem(sys.modules, "torch", torch)
    monkeypatch.setitem(sys.modules, "torch._utils", utils)


def write_legacy(path: Path, tensors: dict[str, _Tensor], storage: np.ndarray) -> None:
    with path.open("wb") as file:
        for head in (0x1950A86A20F9469CFC6C, 1001, {"little_endian": True}):
            pickle.dump(head, file, protocol=2)
        _Pickler(file, protocol=2).dump(OrderedDict(tensors))
        pickle.dump(["0"], file, protocol=2)
        file.write(struct.pack("<q", storage.size) + storage.tobytes())


@pytest.mark.usefixtures("torch_names")
def test_torch_legacy_strides(tmp_path: Path) -> None:
    storage = np.arange(6, dtype=np.float32)
    tensors = {"plain": _Tensor("0", 0, (2, 3), (3, 1)), "turned": _Tensor("0", 0, (3, 2), (1, 3))}
    tensors |= {"part": _Tensor("0", 4, (2,), (1,)), "scalar": _Tensor("0", 5, (), ())}
    write_legacy(tmp_path / "w.pth", tensors, storage)
    read = read_torch_legacy(tmp_path / "w.pth")
    np.testing.assert_array_equal(read["plain"], storage.reshape(2, 3))
    np.testing.assert_array_equal(read["turned"], storage.reshape(2, 3).T)
    np.testing.assert_array_equal(read["part"], [4, 5])
    assert read["scalar"].shape == () and read["scalar"] == 5


@pytest.mark.usefixtures("torch_names")
def test_torch_tensor_that_leaves_its_storage(tmp_path: Path) -> None:
    write_legacy(tmp_path / "w.pth", {"bad": _Tensor("0", 0, (3, 3), (3, 1))}, np.zeros(6, np.float32))
    with pytest.raises(InputError, match="reaches out of its storage"):
        read_torch_legacy(tmp_path / "w.pth")


def test_other_torch_format(tmp_path: Path) -> None:
    (tmp_path / "w.pth").write_bytes(pickle.dumps(1))
    with pytest.raises(InputError, match="not a checkpoint of torch's legacy format"):
        read_torch_legacy(tmp_path / "w.pth")


def safetensors(arrays: dict[str, np.ndarray]) -> bytes:
    header: dict[str, Any] = {"__metadata__": {"format": "pt"}}
    data = b""
    for name, array in arrays.items():
        end = len(data) + array.nbytes
        header[name] = {"dtype": "F32", "shape": array.shape, "data_offsets": [len(data), end]}
        data += array.tobytes()
    text = json.dumps(header).encode()
    return struct.pack("<Q", len(text)) + text + data


@given(st.lists(st.lists(st.integers(0, 3), max_size=3), max_size=4))
def test_safetensors(tmp_path_factory: pytest.TempPathFactory, shapes: list[list[int]]) -> None:
    rng = np.random.default_rng(0)
    arrays = {f"t{i}": rng.random(shape).astype(np.float32) for i, shape in enumerate(shapes)}
    path = tmp_path_factory.mktemp("safetensors") / "w"
    path.write_bytes(safetensors(arrays))
    read = read_safetensors(path)
    assert list(read) == list(arrays)
    for name, array in arrays.items():
        np.testing.assert_array_equal(read[name], array)


@pytest.mark.parametrize("keep", [0, 4, 20, -4])
def test_truncated_safetensors(keep: int, tmp_path: Path) -> None:
    path = tmp_path / "w.safetensors"
    path.write_bytes(safetensors({"a": np.ones((2, 3), np.float32)})[:keep])
    with pytest.raises(InputError, match="not a safetensors file"):
        read_safetensors(path)
