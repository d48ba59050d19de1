"""How bursts are asked for in optc's RTL, and when their words come."""

from __future__ import annotations

from collections import deque

from optc.targets.vta.timing.bursts import Burst
from optc.targets.vta.timing.figures import Overlapped

NEVER = 1 << 62
"""When something is asked for that is not, or not known yet."""


class Port:
    """The arbiter and the memory behind it: bursts in the order in which they are asked for.

    `next`: when the next can be asked for; some are under way meanwhile.
    """

    def __init__(self, timing: Overlapped) -> None:
        self._latency = timing.latency
        self._ends = deque([0] * timing.outstanding, maxlen=timing.outstanding)
        self._free = 0
        self.next = 0

    def take(self, time: int, words: int, ready: int = 0) -> int:
        """Ask at `time` for `words`, which can be taken from `ready` on; when the first of them is."""
        first = max(time + self._latency, self._free, ready)
        self._free = first + words
        self._ends.append(self._free)
        self.next = max(time + 1, self._ends[0])
        return first


class Asking:
    """A unit's bursts, LOAD by LOAD: `time` is when the first that is left, `burst`, can be asked for."""

    def __init__(self, rows: int) -> None:
        self._rows = rows
        self._loads: deque[tuple[int, tuple[Burst, ...]]] = deque()
        self._place = self._free = self.time = 0

    def add(self, time: int, bursts: tuple[Burst, ...]) -> None:
        """Those of a LOAD that is seen at `time`."""
        self._loads.append((time, bursts))
        if len(self._loads) == 1:
            self._begin()

    def _begin(self) -> None:
        while self._loads:
            time, bursts = self._loads[0]
            if bursts:
                self.time = max(self._free, time + self._rows)
                return
            self._free = max(self._free, time) + 1
            self._loads.popleft()

    @property
    def burst(self) -> Burst | None:
        """The first that is left, None if there is none."""
        return self._loads[0][1][self._place] if self._loads else None

    def asked(self, time: int) -> bool:
        """It was asked for at `time`; whether it was its LOAD's last."""
        self._place += 1
        self._free = self.time = time + 1
        if self._place < len(self._loads[0][1]):
            return False
        self._place = 0
        self._loads.popleft()
        self._begin()
        return True
