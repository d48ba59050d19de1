"""How a reader of a channel waits."""

from __future__ import annotations

import copy
import pickle
import time
from typing import Any

import pytest
from ray.exceptions import RayChannelError, RayChannelTimeoutError

from optc.targets.cluster.ray_channel import LONGEST, SHARE, SHORTEST, QuietChannel


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

    def close(self) -> None:
        pass


@pytest.fixture
def naps(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    """The sleeps of the test, which take no time but by the clock."""
    done: list[float] = []
    monkeypatch.setattr(time, "sleep", done.append)
    monkeypatch.setattr(time, "monotonic", lambda: sum(done))
    return done


def test_naps_grow_with_the_time_that_a_reader_has_waited(naps: list[float]) -> None:
    channel = QuietChannel(Scripted(600, 0, 3), "a")
    assert channel.read() == 2
    assert len(naps) == 600
    assert naps[0] == SHORTEST and naps[-1] == LONGEST and naps == sorted(naps)
    assert naps[150] == pytest.approx(SHARE * sum(naps[:150]))
    assert SHORTEST < naps[150] < LONGEST
    del naps[:]
    assert channel.read() == 1 and naps == []
    assert channel.read() == 0 and naps == [SHORTEST] * 3


def test_a_reader_that_gives_up_goes_on_with_its_naps(naps: list[float]) -> None:
    channel = QuietChannel(Scripted(200), "b")
    for _ in range(2):
        with pytest.raises(RayChannelTimeoutError):
            channel.read(timeout=0.005)
    assert naps == sorted(naps) and naps[-1] > SHORTEST
    assert channel.read(timeout=-1) == 0


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
