"""Samples in `.npz` files: arrays keyed by tensor name, batch first, read sample by sample."""

from __future__ import annotations

import zipfile
from bisect import bisect_right
from collections.abc import Iterator, Mapping, Sequence
from itertools import accumulate
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from optc.models.errors import InputError
from optc.models.sample_file import Batch, Member, SampleFile

__all__ = ["LABEL", "Batch", "Member", "Samples", "load_arrays"]

LABEL = "label"
"""The key of the labels; never an input of a model."""


class Samples:
    """The samples of an `.npz`, or of all those in a folder; memory holds one batch, however large they are.

    `files`: in the order of their names; the shapes of their samples may differ. `members`: the arrays, with
    the shapes of the first file's samples. `length`: of all samples.
    """

    def __init__(self, path: str | Path) -> None:
        """Open `path` and read the headers only.

        `InputError` where it is no `.npz` of equal lengths, or where the files of a folder differ in their
        arrays' names, dtypes or ranks.
        """
        self.path = Path(path)
        paths = sorted(self.path.glob("*.npz")) if self.path.is_dir() else [self.path]
        if not paths:
            raise InputError(f"{self.path}: a folder without .npz files; give one with files of samples")
        self.files = [SampleFile(p) for p in paths]
        for file in self.files[1:]:
            _check_alike(self.files[0], file)
        self._ends = list(accumulate(f.length for f in self.files))
        self.length = self._ends[-1]
        first = self.files[0].members
        self.members: Mapping[str, Member] = {
            name: Member(m.dtype, (self.length, *m.shape[1:])) for name, m in first.items()
        }

    @property
    def labels(self) -> NDArray[Any]:
        """All labels, shape (samples, …); `InputError` where there are none, or none of one shape."""
        if LABEL not in self.members:
            raise InputError(
                f"{self.path}: has no array '{LABEL}'; accuracy needs the labels under that name"
            )
        if len(self._runs([LABEL], None)) > 1:
            raise InputError(f"{self.path}: labels of different shapes cannot be one array")
        return np.concatenate([b[LABEL] for b in self.batches([LABEL], 4096)])

    def batches(self, names: Sequence[str], size: int = 1, limit: int | None = None) -> Iterator[Batch]:
        """Yield batches of up to `size` of the first `limit` samples of the named arrays.

        Arrays have shape (batch, …). Samples of different shapes are never in one batch. Raises `InputError`
        where a name is missing or the data is cut short.
        """
        for run in self._runs(names, limit):
            yield from _batches(run, names, size)

    def batch_count(self, names: Sequence[str], size: int = 1, limit: int | None = None) -> int:
        """How many batches `batches` yields."""
        return sum(-(-sum(taken for _, taken in run) // size) for run in self._runs(names, limit))

    def place(self, first: int, count: int = 1) -> tuple[Path, str]:
        """How messages name `count` samples from `first`: the file that holds them, and their numbers there.

        Samples of several files are numbered over the whole folder.
        """
        path, start = self.path, first
        index = bisect_right(self._ends, first)
        if first + count <= self._ends[index]:
            file = self.files[index]
            path, start = file.path, first - self._ends[index] + file.length
        return path, f"sample {start}" if count == 1 else f"samples {start} to {start + count - 1}"

    def _runs(self, names: Sequence[str], limit: int | None) -> list[list[tuple[SampleFile, int]]]:
        """Files one after another whose samples have the same shapes, each with how many samples to take."""
        left = self.length if limit is None else min(limit, self.length)
        runs: list[list[tuple[SampleFile, int]]] = []
        last = None
        for file in self.files:
            sizes, taken = file.sizes(names), min(left, file.length)
            if taken and sizes != last:
                runs.append([])
            if taken:
                runs[-1].append((file, taken))
            last, left = sizes, left - taken
        return runs


def _check_alike(first: SampleFile, file: SampleFile) -> None:
    if set(file.members) != set(first.members):
        mine, others = ", ".join(sorted(file.members)), ", ".join(sorted(first.members))
        raise InputError(f"{file.path}: has the arrays {mine}, {first.path.name} has {others}")
    for name, member in file.members.items():
        other = first.members[name]
        if (member.dtype, len(member.shape)) != (other.dtype, len(other.shape)):
            raise InputError(
                f"{file.path}: array '{name}' is {member.dtype} {list(member.shape)}, in {first.path.name} "
                f"{other.dtype} {list(other.shape)}"
            )


def _batches(run: Sequence[tuple[SampleFile, int]], names: Sequence[str], size: int) -> Iterator[Batch]:
    """Batches of `size` of samples of one shape, over the borders of files; the last may be smaller."""
    parts: list[Batch] = []
    room = size
    for file, left in run:
        with file.open(names) as read:
            while left:
                count = min(room, left)
                parts.append(read(count))
                left, room = left - count, room - count
                if not room:
                    yield _joined(parts)
                    parts, room = [], size
    if parts:
        yield _joined(parts)


def _joined(parts: Sequence[Batch]) -> Batch:
    return parts[0] if len(parts) == 1 else {n: np.concatenate([p[n] for p in parts]) for n in parts[0]}


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
