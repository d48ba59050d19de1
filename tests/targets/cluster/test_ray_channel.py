"""How a reader of a channel waits."""

from __future__ import annotations

import copy
import pickle
import time
from typing import Any

import pytest
from ray.exceptions import RayChannelError, RayChannelTimeoutError

from optc.targets.cluster import bell, ray_channel
from optc.targets.cluster.bell import Bell, wait
from optc.targets.cluster.ray_channel import QuietChannel


class Scripted:
    """A channel of Ray's on which values come after so many vain tries each."""

    def __init__(self, *tries: int) -> None:
        self.tries = list(tries)

    def read(self, timeout: float) -> int:
        assert timeout == 0
        if self.tries[0]:
            self.tries[0] -= 1
            raise RayChannelTimeoutError("nothing yet")
        self.tries.pop(0)
        return len(self.tries)

    def write(self, value: int, timeout: float | None) -> None:
        pass

    def close(self) -> None:
        pass


def test_a_reader_waits_from_its_first_try_to_the_value(monkeypatch: pytest.MonkeyPatch) -> None:
    waits: list[tuple[list[Bell], float]] = []
    clock = iter(range(1000))
    monkeypatch.setattr(time, "monotonic", lambda: next(clock))
    monkeypatch.setattr(ray_channel, "wait", lambda bells, since: waits.append((bells, since)))
    channel = QuietChannel(Scripted(3, 0, 9, 1), "a")
    assert channel.read() == 3
    assert waits == [([channel.bell], 0)] * 3
    assert channel.read(timeout=-1) == 2 and len(waits) == 3
    del waits[:]
    for _ in range(2):
        with pytest.raises(RayChannelTimeoutError):
            channel.read(timeout=3)
    assert channel.read() == 1
    assert len(waits) == 7 and len({since for _, since in waits}) == 1
    assert channel.read() == 0 and waits[-1][1] > waits[0][1]


def test_a_writer_wakes_the_reader(monkeypatch: pytest.MonkeyPatch) -> None:
    channel: Any = QuietChannel(Scripted(0), "e")
    reader = pickle.loads(pickle.dumps(channel))
    reader.bell.fileno()
    channel.write(1)
    monkeypatch.setattr(bell, "SHORTEST", 30.0)
    wait([reader.bell], time.monotonic())
    assert reader.bell.heard


def test_what_is_ready_is_kept_for_the_reader() -> None:
    channel = QuietChannel(Scripted(1, 0), "c")
    assert [channel.ready(), channel.ready(), channel.ready()] == [False, True, True]
    assert [channel.read(0), channel.read(0)] == [1, 0]


def test_a_copy_that_is_closed_closes_the_channel_in_this_process() -> None:
    channel: Any = QuietChannel(Scripted(0), "d")
    other = pickle.loads(pickle.dumps(channel))
    copy.copy(other).close()
    with pytest.raises(RayChannelError):
        channel.read()
    with pytest.raises(RayChannelError):
        channel.write(1)
