"""The channels of a compiled graph of Ray, waiting for a value asleep.

A channel of Ray waits by trying its semaphore over and over: a whole core for the driver and for every actor
that has nothing to do. Here a reader tries, sleeps until the writer rings or some time has gone by, and tries
again. Between two processes of one machine the values go through `Slots`, which take less time than Ray's
own memory.
"""

from __future__ import annotations

import platform
import sys
import time
import uuid
from typing import Any

from ray.exceptions import RayChannelError, RayChannelTimeoutError
from ray.experimental.channel import ChannelInterface
from ray.experimental.channel.shared_memory_channel import SharedMemoryType
from ray.experimental.channel.utils import get_actor_node

from optc.targets.cluster.bell import Bell, wait
from optc.targets.cluster.slots import Slots

ORDERED = sys.platform == "linux" and platform.machine() == "x86_64"
"""Whether what a process writes is seen in that order by another, and files need no name."""
_NOTHING = object()
_closed: set[str] = set()
"""The channels that were closed in this process.

Ray closes a copy of a channel, which does not know the larger buffer that the channel in use may have
changed to by now; a reader of that one would wait for ever.
"""


class QuietChannel(ChannelInterface):  # type: ignore[misc]
    """A channel of Ray's, or `Slots`, with another way to wait for a value."""

    def __init__(self, channel: Any, name: str) -> None:
        self._channel = channel
        self._name = name
        self.bell = Bell(name)
        self._value: Any = _NOTHING
        self._since: float | None = None

    def __reduce__(self) -> tuple[Any, ...]:
        return QuietChannel, (self._channel, self._name)

    def ensure_registered_as_writer(self) -> None:
        """As Ray says."""
        self._channel.ensure_registered_as_writer()

    def ensure_registered_as_reader(self) -> None:
        """As Ray says."""
        self._channel.ensure_registered_as_reader()

    def write(self, value: Any, timeout: float | None = None) -> None:
        """As Ray says; with a buffer for every request in flight it never has to wait."""
        if self._name in _closed:
            raise RayChannelError("the channel is closed")
        self._channel.write(value, timeout)
        self.bell.ring()

    def ready(self) -> bool:
        """Whether `read` would return at once; the value is fetched then, and kept for `read`."""
        if self._value is _NOTHING:
            if self._name in _closed:
                raise RayChannelError("the channel is closed")
            try:
                self._value = self._channel.read(0)
            except RayChannelTimeoutError:
                return False
        return True

    def read(self, timeout: float | None = None) -> Any:
        """The next value; `RayChannelTimeoutError` after `timeout` seconds (None, -1: never)."""
        start = time.monotonic()
        end = None if timeout is None or timeout < 0 else start + timeout
        if self._since is None:
            self._since = start
        while not self.ready():
            if end is not None and time.monotonic() >= end:
                raise RayChannelTimeoutError(f"nothing came within {timeout} s")
            wait([self.bell], self._since)
        value, self._value, self._since = self._value, _NOTHING, None
        return value

    def close(self) -> None:
        """Readers and writers of the channel get a `RayChannelError` from now on."""
        _closed.add(self._name)
        self._channel.close()


class QuietType(SharedMemoryType):  # type: ignore[misc]
    """The type of such channels: `node.type_hint = QuietType(num_shm_buffers=N)`."""

    def create_channel(
        self, writer: Any, reader_and_node_list: list[tuple[Any, str]], driver_actor_id: str | None = None
    ) -> QuietChannel:
        """As Ray says; between two processes of one machine through `Slots`."""
        name = uuid.uuid4().hex
        ((reader, node), *others) = reader_and_node_list
        if ORDERED and not others and reader != writer and node == get_actor_node(writer):
            return QuietChannel(Slots(name, self._num_shm_buffers), name)
        return QuietChannel(super().create_channel(writer, reader_and_node_list, driver_actor_id), name)
