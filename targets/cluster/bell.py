"""Waking a process of this machine that waits for another."""

from __future__ import annotations

import select
import socket
import time
from collections.abc import Sequence
from contextlib import suppress

SHARE = 0.02
"""What part of the time waited so far one sleeps before he looks again, while no bell was heard yet."""
SHORTEST, LONGEST = 1e-3, 5e-3
"""Bounds of that sleep, in seconds."""
TRUSTED = 20e-3
"""Seconds until one looks again who waits for bells that he has heard before."""


class Bell:
    """Who waits sleeps until the bell of this `name` rings; on another machine it is not heard.

    A socket without a file, which goes with the process that listens to it.
    """

    def __init__(self, name: str) -> None:
        self._address = f"\0optc-{name}"
        self._ringing: socket.socket | None = None
        self._listening: socket.socket | None = None
        self.heard = False

    def ring(self) -> None:
        """Wake who waits, if anyone does."""
        if self._ringing is None:
            self._ringing = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM | socket.SOCK_NONBLOCK)
        with suppress(OSError):
            self._ringing.sendto(b"!", self._address)

    def fileno(self) -> int:
        """The socket to listen at."""
        if self._listening is None:
            self._listening = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM | socket.SOCK_NONBLOCK)
            self._listening.bind(self._address)
        return self._listening.fileno()

    def hush(self) -> None:
        """Take what has rung."""
        assert self._listening is not None
        self.heard = True
        with suppress(BlockingIOError):
            while True:
                self._listening.recv(1)


def wait(bells: Sequence[Bell], since: float) -> None:
    """Sleep until one of the bells rings, or it is time to look; the waiting began at `since` (monotonic)."""
    seconds = min(max(SHARE * (time.monotonic() - since), SHORTEST), LONGEST)
    if bells and all(bell.heard for bell in bells):
        seconds = TRUSTED
    poll = select.poll()
    by_number = {bell.fileno(): bell for bell in bells}
    for number in by_number:
        poll.register(number, select.POLLIN)
    for number, _ in poll.poll(seconds * 1e3):
        by_number[number].hush()
