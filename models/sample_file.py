"""One `.npz` of samples: its headers, and its arrays read from front to back, never unpickled."""

from __future__ import annotations

import zipfile
import zlib
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any

import numpy as np
from numpy.lib import format as npy
from numpy.typing import NDArray

from optc.models.errors import InputError

Batch = dict[str, NDArray[Any]]


@dataclass(frozen=True)
class Member:
    """One array of a file: dtype, and its shape with the samples first."""

    dtype: np.dtype[Any]
    shape: tuple[int, ...]


class SampleFile:
    """The samples of one `.npz`, all of one shape."""

    def __init__(self, path: Path) -> None:
        """Open `path` and read the headers only; `InputError` where it is no `.npz` of equal lengths."""
        self.path = path
        self.members: Mapping[str, Member] = self._headers()
        lengths = {m.shape[0] if m.shape else 0 for m in self.members.values()}
        if len(lengths) != 1 or 0 in lengths:
            sizes = ", ".join(f"{k} {list(m.shape)}" for k, m in self.members.items()) or "no arrays"
            raise InputError(
                f"{path}: arrays need the same number of samples first, at least one; got {sizes}"
            )
        self.length = lengths.pop()

    def _headers(self) -> dict[str, Member]:
        try:
            with zipfile.ZipFile(self.path) as archive:
                names = [n.removesuffix(".npy") for n in archive.namelist() if n.endswith(".npy")]
                for name in names:
                    if names.count(name) > 1:
                        raise InputError(f"{self.path}: holds the array '{name}' twice; write it again")
                return {name: _header(archive.open(f"{name}.npy")) for name in names}
        except OSError as error:
            raise InputError(
                f"{self.path}: cannot be read ({error.strerror}); give an .npz of samples"
            ) from error
        except (zipfile.BadZipFile, ValueError, EOFError) as error:
            raise InputError(f"{self.path}: not an .npz file ({error}); write it with numpy.savez") from error

    def sizes(self, names: Sequence[str]) -> list[tuple[int, ...]]:
        """The shapes of one sample; `InputError` where a name is missing."""
        for name in names:
            if name not in self.members:
                have = ", ".join(self.members)
                raise InputError(
                    f"{self.path}: has no array '{name}' (it has {have}); key it by the input's name"
                )
        return [self.members[n].shape[1:] for n in names]

    @contextmanager
    def open(self, names: Sequence[str]) -> Iterator[Callable[[int], Batch]]:
        """A function that reads the next so many samples of the named arrays, shape (count, …).

        It raises `InputError` where the data is cut short or damaged.
        """
        with zipfile.ZipFile(self.path) as archive:
            streams = {n: archive.open(f"{n}.npy") for n in names}
            for stream in streams.values():
                _header(stream, close=False)
            yield lambda count: {n: self._read(streams[n], n, count) for n in names}

    def _read(self, stream: IO[bytes], name: str, count: int) -> NDArray[Any]:
        member = self.members[name]
        shape = (count, *member.shape[1:])
        wanted = int(np.prod(shape, dtype=np.int64)) * member.dtype.itemsize
        try:
            data = stream.read(wanted)
        except (zipfile.BadZipFile, zlib.error) as error:
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
