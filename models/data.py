"""Samples in `.npz` files: arrays keyed by tensor name, batch first, read sample by sample."""

from __future__ import annotations

import zipfile
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any

import numpy as np
from numpy.lib import format as npy
from numpy.typing import NDArray

from optc.models.errors import InputError

LABEL = "label"
"""The key of the labels; never an input of a model."""

Batch = dict[str, NDArray[Any]]


@dataclass(frozen=True)
class Member:
    """One array of the file: dtype, and its shape with the samples first."""

    dtype: np.dtype[Any]
    shape: tuple[int, ...]


class Samples:
    """The samples of one `.npz`; memory holds one batch, however large the file."""

    def __init__(self, path: str | Path) -> None:
        """Open `path` and read the headers only; `InputError` where it is no `.npz` of equal lengths."""
        self.path = Path(path)
        self.members: Mapping[str, Member] = self._headers()
        lengths = {m.shape[0] if m.shape else 0 for m in self.members.values()}
        if len(lengths) != 1 or 0 in lengths:
            sizes = ", ".join(f"{k} {list(m.shape)}" for k, m in self.members.items())
            raise InputError(
                f"{self.path}: arrays need the same number of samples first, at least one; got {sizes}"
            )
        self.length = lengths.pop()

    def _headers(self) -> dict[str, Member]:
        try:
            with zipfile.ZipFile(self.path) as archive:
                names = [n for n in archive.namelist() if n.endswith(".npy")]
                return {n.removesuffix(".npy"): _header(archive.open(n)) for n in names}
        except OSError as error:
            raise InputError(
                f"{self.path}: cannot be read ({error.strerror}); give an .npz of samples"
            ) from error
        except (zipfile.BadZipFile, ValueError, EOFError) as error:
            raise InputError(f"{self.path}: not an .npz file ({error}); write it with numpy.savez") from error

    @property
    def labels(self) -> NDArray[Any]:
        """All labels, shape (samples, …); `InputError` where the file has none."""
        if LABEL not in self.members:
            raise InputError(
                f"{self.path}: has no array '{LABEL}'; accuracy needs the labels under that name"
            )
        return np.concatenate([b[LABEL] for b in self.batches([LABEL], 4096)])

    def batches(self, names: list[str], size: int = 1, limit: int | None = None) -> Iterator[Batch]:
        """Yield batches of up to `size` of the first `limit` samples of the named arrays.

        Arrays have shape (batch, …). Raises `InputError` where a name is missing or the data is cut short.
        """
        for name in names:
            if name not in self.members:
                have = ", ".join(self.members)
                raise InputError(
                    f"{self.path}: has no array '{name}' (it has {have}); key it by the input's name"
                )
        total = self.length if limit is None else min(limit, self.length)
        with zipfile.ZipFile(self.path) as archive:
            streams = {n: archive.open(f"{n}.npy") for n in names}
            for stream in streams.values():
                _header(stream, close=False)
            for start in range(0, total, size):
                count = min(size, total - start)
                yield {n: self._read(streams[n], n, count) for n in names}

    def _read(self, stream: IO[bytes], name: str, count: int) -> NDArray[Any]:
        member = self.members[name]
        shape = (count, *member.shape[1:])
        wanted = int(np.prod(shape, dtype=np.int64)) * member.dtype.itemsize
        try:
            data = stream.read(wanted)
        except zipfile.BadZipFile as error:
            raise InputError(f"{self.path}: array '{name}' is damaged ({error}); write it again") from error
        if len(data) != wanted:
            raise InputError(f"{self.path}: array '{name}' is cut short; write it again")
        return np.frombuffer(data, member.dtype).reshape(shape)


def _header(stream: IO[bytes], close: bool = True) -> Member:
    version = npy.read_magic(stream)
    read = npy.read_array_header_1_0 if version == (1, 0) else npy.read_array_header_2_0
    shape, fortran, dtype = read(stream)
    if fortran and len(shape) > 1:
        raise ValueError("an array in Fortran order cannot be read sample by sample")
    if dtype.hasobject:
        raise ValueError("an array of Python objects is never read")
    if close:
        stream.close()
    return Member(dtype, shape)


def load_arrays(path: str | Path) -> Batch:
    """All arrays of an `.npz`, whole (for `run -i`, where the batch is what the user gave)."""
    try:
        with np.load(path, allow_pickle=False) as archive:
            return {name: archive[name] for name in archive.files}
    except OSError as error:
        raise InputError(
            f"{path}: cannot be read ({error.strerror or error}); give an .npz of inputs"
        ) from error
    except (zipfile.BadZipFile, ValueError, EOFError, AttributeError) as error:
        raise InputError(f"{path}: not an .npz file ({error}); write it with numpy.savez") from error
