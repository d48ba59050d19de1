"""A VTA program in a file: instructions, memory before the run, and memory expected after it."""

from __future__ import annotations

import re
import zipfile
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from optc.models import storage
from optc.models.errors import InputError
from optc.targets.vta.isa import INSTRUCTION_BYTES

Bytes = NDArray[np.uint8]
Area = tuple[int, Bytes]
"""Physical byte address, and the bytes that stand from there on."""

PAGE = 0x1000
"""Bytes; addresses below are never used: the original's simulator rejects address 0."""

ADDRESS_SPACE = 1 << 32


@dataclass(frozen=True, eq=False)
class Program:
    """`instructions`: (n, 16) uint8; `inputs`: written in order before the run; `expected`: after it.

    Memory that no input covers is zero.
    """

    instructions: Bytes
    inputs: tuple[Area, ...]
    expected: tuple[Area, ...]

    @classmethod
    def load(cls, path: Path) -> Program:
        """Read a `.npz` of `insns`, `inK`, `inK_addr`, `outK`, `outK_addr` (docs/vta.md).

        Raises `InputError` where the file is damaged, or an entry is missing, of another type, or beyond the
        address space of 4 GiB.
        """
        arrays = _read(path)
        if "insns" not in arrays:
            raise InputError(f"{path}: no entry 'insns'; it is no VTA program")
        stream = arrays["insns"]
        if stream.ndim != 2 or stream.shape[1] != INSTRUCTION_BYTES or stream.dtype != np.uint8:
            raise InputError(f"{path}: 'insns' is {stream.dtype} {stream.shape}, not uint8 (n, 16)")
        return cls(stream, _areas(arrays, "in", path), _areas(arrays, "out", path))

    def save(self, path: Path) -> None:
        """Write the file that `load` reads; the same program gives the same bytes."""
        arrays: dict[str, Any] = {"insns": self.instructions}
        for kind, areas in (("in", self.inputs), ("out", self.expected)):
            for index, (address, data) in enumerate(areas):
                arrays[f"{kind}{index}"] = data
                arrays[f"{kind}{index}_addr"] = np.int64(address)
        with storage.write_beside(path) as beside:
            np.savez_compressed(beside, **arrays)

    def memory_image(self) -> Image:
        """Memory as it stands before the run, the instruction stream not included."""
        return Image(self.inputs)

    def place(self) -> int:
        """A free address for the instruction stream: the first page behind everything the file names."""
        end = max((address + data.size for address, data in (*self.inputs, *self.expected)), default=PAGE)
        return max(PAGE, -(-end // PAGE) * PAGE)


class Image:
    """Bytes at addresses, later areas over earlier ones; zero where nothing is said."""

    def __init__(self, areas: Iterable[Area]) -> None:
        self._areas = tuple(areas)

    def read(self, address: int, size: int) -> Bytes:
        """The `size` bytes from `address`."""
        found = np.zeros(size, np.uint8)
        for start, data in self._areas:
            low, high = max(address, start), min(address + size, start + data.size)
            if low < high:
                found[low - address : high - address] = data[low - start : high - start]
        return found


def _read(path: Path) -> dict[str, NDArray[Any]]:
    try:
        with np.load(path, allow_pickle=False) as file:
            if not isinstance(file, np.lib.npyio.NpzFile):
                raise InputError(f"{path}: not a .npz file")
            return {name: file[name] for name in file.files}
    except OSError as error:
        raise InputError(f"{path}: cannot be read ({error.strerror}); give a VTA program (.npz)") from error
    except (ValueError, EOFError, zipfile.BadZipFile, NotImplementedError) as error:
        raise InputError(f"{path}: is no .npz of numbers; give a VTA program (docs/vta.md)") from error
    except Exception as error:  # zlib and numpy raise various errors for damaged members
        raise InputError(f"{path}: damaged .npz: {type(error).__name__}: {error}") from error


def _areas(arrays: dict[str, NDArray[Any]], kind: str, path: Path) -> tuple[Area, ...]:
    """The areas `kind`0, `kind`1, ... in order of their numbers."""
    names = [m for name in arrays if (m := re.fullmatch(rf"{kind}(\d+)", name))]
    for address_name in arrays:
        owner = re.fullmatch(rf"({kind}\d+)_addr", address_name)
        if owner and owner[1] not in arrays:
            raise InputError(f"{path}: '{address_name}' is there, its bytes '{owner[1]}' are not")
    areas: list[Area] = []
    for match in sorted(names, key=lambda m: int(m[1])):
        name, data = match[0], arrays[match[0]]
        where = arrays.get(f"{name}_addr")
        if where is None or where.ndim or where.dtype.kind not in "iu":
            raise InputError(f"{path}: '{name}' has no integer '{name}_addr'")
        address = int(where)
        if not 0 <= address <= ADDRESS_SPACE - data.nbytes:
            raise InputError(f"{path}: '{name}' at {address:#x} lies beyond the address space of 4 GiB")
        areas.append((address, np.ascontiguousarray(data).reshape(-1).view(np.uint8)))
    return tuple(areas)
