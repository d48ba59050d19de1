"""Memory through which one process of this machine sends values to another, their arrays copied once."""

from __future__ import annotations

import mmap
import os
import pickle
import struct
from collections.abc import Sequence
from contextlib import suppress
from typing import Any

from ray import cloudpickle
from ray.exceptions import RayChannelError, RayChannelTimeoutError, RayError

_NUMBER = struct.Struct("Q")
_MESSAGE = struct.Struct("4Q")
"""Where a message lies, its bytes, those of its pickle, and how many arrays are beside the pickle."""
_ENTRY = _NUMBER.size + _MESSAGE.size
"""Of each slot at the beginning of the file: the number of the message in it, from 1 on, and the message."""
_ALIGN = 64
_files: dict[str, int] = {}
"""The memory of the channels that this process writes, by their names."""


class Slots:
    """A channel with one writer and one reader, made by the writer: message n lies in slot n modulo `count`.

    The arrays that are read are views of a slot, so message n + `count` must not be written before nobody
    uses those of message n; that is for the caller to see to. The memory is a file without a name, which the
    reader opens by the writer's process: it goes when the two have closed the channel, or ended.
    """

    def __init__(self, name: str, count: int) -> None:
        self._name = name
        self._count = count
        _files[name] = os.memfd_create(f"optc-{name}")
        self._place = f"/proc/{os.getpid()}/fd/{_files[name]}"
        self._begin()

    def _begin(self) -> None:
        self._memory: mmap.mmap | None = None
        self._done = 0
        self._regions = [(0, 0)] * self._count

    def __getstate__(self) -> tuple[str, int, str]:
        return self._name, self._count, self._place

    def __setstate__(self, state: tuple[str, int, str]) -> None:
        self._name, self._count, self._place = state
        self._begin()

    def ensure_registered_as_writer(self) -> None:
        """There is nothing to do."""

    def ensure_registered_as_reader(self) -> None:
        """There is nothing to do."""

    def write(self, value: Any, timeout: float | None = None) -> None:
        """Send a value; it never waits. `RayChannelError` once it is closed."""
        arrays: list[memoryview] = []
        # as Ray does: what is of no module goes by value
        data = cloudpickle.dumps(value, 5, lambda array: arrays.append(array.raw()))
        head = struct.pack(f"{len(arrays)}Q", *(array.nbytes for array in arrays)) + data
        places, end = _places(len(head), [array.nbytes for array in arrays])
        slot = self._done % self._count
        memory, start = self._room(slot, end)
        memory[start : start + len(head)] = head
        for place, array in zip(places, arrays, strict=True):
            memory[start + place : start + place + array.nbytes] = array
        _MESSAGE.pack_into(memory, slot * _ENTRY + _NUMBER.size, start, end, len(data), len(arrays))
        self._done += 1
        _NUMBER.pack_into(memory, slot * _ENTRY, self._done)

    def _room(self, slot: int, size: int) -> tuple[mmap.mmap, int]:
        """The memory, and where in it the slot has `size` bytes: behind all others, where it has to grow."""
        memory, (start, found) = self._memory, self._regions[slot]
        if memory is None or size > found:
            if self._name not in _files:
                raise RayChannelError("the channel is closed")
            start = len(memory) if memory else _rounded(self._count * _ENTRY)
            try:
                os.truncate(_files[self._name], start + _rounded(size))
                self._memory = memory = mmap.mmap(_files[self._name], 0)
            except OSError as error:
                raise RayError(f"no memory for a message of {size} bytes: {error.strerror}") from error
            self._regions[slot] = start, _rounded(size)
        return memory, start

    def read(self, timeout: float | None = None) -> Any:
        """The next value, its arrays read-only; `RayChannelTimeoutError` where there is none yet.

        `RuntimeError` where the writer was more than `count` messages ahead.
        """
        entry = (self._done % self._count) * _ENTRY
        memory = self._memory or self._open()
        (number,) = _NUMBER.unpack_from(memory, entry)
        if number > self._done + 1:
            raise RuntimeError("a message was overwritten before it was read")
        if number <= self._done:
            raise RayChannelTimeoutError("nothing came yet")
        start, end, length, count = _MESSAGE.unpack_from(memory, entry + _NUMBER.size)
        if start + end > len(memory):
            memory = self._open()
        message = memoryview(memory)[start : start + end]
        sizes = struct.unpack_from(f"{count}Q", message)
        places, _ = _places(8 * count + length, sizes)
        arrays = [message[p : p + size] for p, size in zip(places, sizes, strict=True)]
        self._done += 1
        return pickle.loads(message[8 * count : 8 * count + length], buffers=arrays)

    def _open(self) -> mmap.mmap:
        """Map all that there is now."""
        try:
            file = os.open(self._place, os.O_RDONLY)
        except (FileNotFoundError, ProcessLookupError) as error:
            raise RayChannelTimeoutError("the writer is gone") from error
        except PermissionError as error:
            raise RayError(f"{self._place} is another user's; run all of Ray as one user") from error
        try:
            self._memory = memory = mmap.mmap(file, 0, prot=mmap.PROT_READ)
        except ValueError as error:  # it is empty
            raise RayChannelTimeoutError("nothing came yet") from error
        finally:
            os.close(file)
        return memory

    def close(self) -> None:
        """Give the memory up; what was read of it stays. Another thread may be at work here."""
        self._memory = None
        with suppress(KeyError):
            os.close(_files.pop(self._name))


def _places(start: int, sizes: Sequence[int]) -> tuple[list[int], int]:
    """Where arrays of these sizes lie in a message behind its first `start` bytes, and where it ends."""
    places = []
    for size in sizes:
        places.append(-(-start // _ALIGN) * _ALIGN)
        start = places[-1] + size
    return places, start


def _rounded(size: int) -> int:
    """The next power of two, from a page on."""
    return max(mmap.PAGESIZE, 1 << (size - 1).bit_length())
