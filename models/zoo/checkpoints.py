"""Reading trained weights without trusting the file: pickles that may only build arrays, and safetensors."""

import codecs
import json
import pickle
import struct
from collections import OrderedDict
from collections.abc import Callable
from pathlib import Path
from typing import Any, BinaryIO, NamedTuple

import numpy as np
import numpy.typing as npt

from optc.models.errors import InputError

Array = npt.NDArray[Any]

_TORCH_MAGIC = 0x1950A86A20F9469CFC6C
_TORCH_PROTOCOL = 1001
_TORCH_STORAGES = {"FloatStorage": "<f4", "LongStorage": "<i8"}
_SAFETENSORS_DTYPES = {"F32": "<f4", "F16": "<f2", "I64": "<i8", "I32": "<i4", "I8": "i1", "U8": "u1"}


class _Unpickler(pickle.Unpickler):
    """Refuses every global but the given ones, so that a pickle can call nothing else."""

    def __init__(self, file: BinaryIO, allowed: dict[tuple[str, str], object]) -> None:
        super().__init__(file)
        self._allowed = allowed

    def find_class(self, module: str, name: str) -> object:
        """The stand-in for `module.name`; InputError where the file asks for anything else."""
        if (module, name) not in self._allowed:
            raise InputError(f"refused to unpickle: the file asks for {module}.{name}")
        return self._allowed[module, name]


class _PickledArray:
    """What numpy's array pickles are read into: shape, dtype and bytes, and no numpy function called."""

    def __setstate__(self, state: tuple[int, tuple[int, ...], "_PickledDtype", bool, bytes]) -> None:
        _, shape, dtype, fortran, data = state
        self.array = np.frombuffer(data, dtype.dtype()).reshape(shape, order="F" if fortran else "C")


class _PickledDtype:
    """A number's dtype; objects and structures are refused."""

    def __init__(self, code: str, *_: object) -> None:
        if code[:1] not in ("f", "i", "u"):
            raise InputError(f"refused to unpickle: an array of dtype {code}")
        self._code, self._order = code, "="

    def __setstate__(self, state: tuple[Any, ...]) -> None:
        self._order = str(state[1])

    def dtype(self) -> np.dtype[Any]:
        """The numpy dtype."""
        return np.dtype(self._order + self._code)


_NUMPY_GLOBALS: dict[tuple[str, str], object] = {
    ("numpy.core.multiarray", "_reconstruct"): lambda *_: _PickledArray(),
    ("numpy._core.multiarray", "_reconstruct"): lambda *_: _PickledArray(),  # since numpy 2
    ("numpy", "ndarray"): None,
    ("numpy", "dtype"): _PickledDtype,
}


def read_numpy_pickle(path: Path) -> dict[str, list[Array]]:
    """A pickled dictionary of lists of numpy arrays (protocol 3 and later); InputError for anything else."""
    with path.open("rb") as file:
        content = _Unpickler(file, _NUMPY_GLOBALS).load()
    return {str(name): [item.array for item in items] for name, items in content.items()}


class _Strided(NamedTuple):
    storage: str
    dtype: str
    offset: int
    shape: tuple[int, ...]
    strides: tuple[int, ...]

    def of(self, data: Array) -> Array:
        """The contiguous array that this view of the storage's elements shows; InputError past its end."""
        last = self.offset + sum((n - 1) * step for n, step in zip(self.shape, self.strides, strict=True))
        if self.offset < 0 or any(step < 0 for step in self.strides) or last >= len(data):
            raise InputError(f"checkpoint: a tensor of shape {self.shape} reaches out of its storage")
        strides = tuple(step * data.itemsize for step in self.strides)
        view = np.lib.stride_tricks.as_strided(data[self.offset :], self.shape, strides)
        return np.ascontiguousarray(view).reshape(self.shape)


def _rebuild_tensor(
    storage: tuple[str, str], offset: int, shape: tuple[int, ...], strides: tuple[int, ...], *_: object
) -> _Strided:
    key, dtype = storage
    return _Strided(key, dtype, offset, tuple(shape), tuple(strides))


_TORCH_GLOBALS: dict[tuple[str, str], object] = {
    ("collections", "OrderedDict"): OrderedDict,
    ("torch._utils", "_rebuild_tensor_v2"): _rebuild_tensor,
    **{("torch", name): dtype for name, dtype in _TORCH_STORAGES.items()},
}


class _TorchUnpickler(_Unpickler):
    def persistent_load(self, pid: Any) -> tuple[str, str]:
        """Key and dtype of a storage: ('storage', type, key, device, elements, view)."""
        _, dtype, key, *_ = pid
        return str(key), str(dtype)


def read_torch_legacy(path: Path) -> dict[str, Array]:
    """The state dictionary of a checkpoint in torch's format before 1.6 (`torch/serialization.py`, legacy).

    Five pickles (magic number, protocol, system, tensors, storage keys), then for each key its element count
    (int64) and its elements. Tensors are views: shape and strides over a storage. InputError otherwise.
    """
    with path.open("rb") as file:
        load: Callable[[], Any] = lambda: _TorchUnpickler(file, _TORCH_GLOBALS).load()  # noqa: E731
        if load() != _TORCH_MAGIC or load() != _TORCH_PROTOCOL:
            raise InputError(f"{path}: not a checkpoint of torch's legacy format")
        load()
        tensors: dict[str, _Strided] = load()
        dtypes = {tensor.storage: np.dtype(tensor.dtype) for tensor in tensors.values()}
        storages = {}
        for key in load():
            (count,) = struct.unpack("<q", file.read(8))
            storages[key] = np.frombuffer(file.read(count * dtypes[key].itemsize), dtypes[key], count)
    return {name: tensor.of(storages[tensor.storage]) for name, tensor in tensors.items()}


def read_safetensors(path: Path) -> dict[str, Array]:
    """The arrays of a safetensors file: an 8-byte length, a JSON header, the data; InputError if damaged."""
    data = path.read_bytes()
    try:
        (length,) = struct.unpack_from("<Q", data)
        header = json.loads(codecs.decode(data[8 : 8 + length], "utf-8"))
        header.pop("__metadata__", None)
        arrays = {}
        for name, entry in header.items():
            begin, end = (8 + length + offset for offset in entry["data_offsets"])
            array = np.frombuffer(data[begin:end], _SAFETENSORS_DTYPES[entry["dtype"]])
            arrays[name] = array.reshape(entry["shape"])
    except (struct.error, ValueError, KeyError, TypeError) as error:
        raise InputError(f"{path}: not a safetensors file ({error})") from error
    return arrays
