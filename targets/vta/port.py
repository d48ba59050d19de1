"""The read port of optc's RTL: bursts in the order in which they are asked for, several under way."""

from __future__ import annotations

from collections import deque

from optc.targets.vta.figures import Overlapped


class Port:
    """The arbiter and the memory behind it; words come one a cycle, or wait for who takes them."""

    def __init__(self, timing: Overlapped) -> None:
        self._latency = timing.latency
        self._ends = deque([-1] * timing.outstanding, maxlen=timing.outstanding)
        self._free = 0
        self.next = 0
        """When the next burst can be asked for."""

    def take(self, time: int, cycles: int, ready: int = 0) -> int:
        """Ask at `time` for a burst that takes `cycles`, from `ready` on; when its first word comes."""
        first = max(time + self._latency, self._free, ready)
        self._free = first + cycles
        self._ends.append(self._free)
        self.next = max(time + 1, self._ends[0])
        return first
