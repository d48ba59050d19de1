"""Waiting for a bell, and how long without one."""

from __future__ import annotations

import select
import time
from typing import Any

import pytest

from optc.targets.cluster import bell
from optc.targets.cluster.bell import LONGEST, SHARE, SHORTEST, TRUSTED, Bell, wait


def test_a_bell_wakes_its_listeners_and_no_others(monkeypatch: pytest.MonkeyPatch) -> None:
    one, other = Bell("test-one"), Bell("test-other")
    Bell("test-one").ring()  # nobody listens yet
    one.fileno(), other.fileno()
    for _ in range(100):
        Bell("test-one").ring()
    monkeypatch.setattr(bell, "SHORTEST", 30.0)
    wait([one, other], time.monotonic())
    assert (one.heard, other.heard) == (True, False)
    one.heard = False
    monkeypatch.setattr(bell, "SHORTEST", 1e-3)
    wait([one, other], time.monotonic())
    assert not one.heard  # all hundred were taken


class Silence:
    """A poll that nothing comes of; the time that passes in it is on its clock."""

    clock = 0.0
    sleeps: list[float] = []

    def register(self, *what: int) -> None:
        pass

    def poll(self, milliseconds: float) -> list[Any]:
        Silence.sleeps.append(round(milliseconds / 1e3, 9))
        Silence.clock += milliseconds / 1e3
        return []


def test_sleeps_grow_with_the_time_waited_until_the_bell_was_heard(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(select, "poll", Silence)
    monkeypatch.setattr(time, "monotonic", lambda: Silence.clock)
    quiet, known = Bell("test-quiet"), Bell("test-known")
    known.heard = True
    for _ in range(300):
        wait([quiet, known], 0.0)
    found = Silence.sleeps
    assert found[0] == SHORTEST and found[-1] == LONGEST and found == sorted(found)
    assert SHORTEST < found[100] < LONGEST
    assert found[100] == pytest.approx(SHARE * sum(found[:100]), rel=1e-4)
    wait([known], 0.0)
    assert found[-1] == TRUSTED
