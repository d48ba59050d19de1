"""Progress on stderr for what takes over a second; nothing where stderr is no terminal."""

from __future__ import annotations

import sys
import threading
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from typing import Any, TypeVar

from optc.models.model import Model
from optc.passes.base import Pass
from optc.passes.pipeline import Snapshot, Step, Watcher

T = TypeVar("T")

_DELAY = 1.0
"""Seconds before anything is shown."""


class TerminalProgress:
    """One live display of all tasks under way; it appears once they take over a second."""

    def __init__(self) -> None:
        self._display: Any = None
        self._timer: threading.Timer | None = None
        self._open = 0

    def track(self, items: Iterable[T], description: str, total: int | None = None) -> Iterator[T]:
        """Yield `items`, showing how many are done."""
        task = self.begin(description, total)
        try:
            for item in items:
                yield item
                self._display.advance(task)
        finally:
            self.end(task)

    def begin(self, description: str, total: int | None = None) -> Any:
        """Show a task; returns its handle for `end`."""
        if self._display is None:
            self._display = _display()
        if self._open == 0:
            self._timer = threading.Timer(_DELAY, self._display.start)
            self._timer.daemon = True
            self._timer.start()
        self._open += 1
        return self._display.add_task(description, total=total)

    def end(self, task: Any) -> None:
        """Take a task away."""
        self._display.remove_task(task)
        self._open -= 1
        if self._open == 0:
            self.close()

    def close(self) -> None:
        """Take the display away."""
        if self._timer is not None:
            self._timer.cancel()
            self._timer.join()
            if self._display.live.is_started:
                self._display.stop()
        self._timer = None


def _display() -> Any:
    from rich.progress import (
        BarColumn,
        MofNCompleteColumn,
        Progress,
        SpinnerColumn,
        TextColumn,
        TimeElapsedColumn,
    )

    from optc.cli.console import console

    columns = (
        SpinnerColumn(),
        TextColumn("{task.description}", markup=False),
        BarColumn(bar_width=24),
        MofNCompleteColumn(),
        TimeElapsedColumn(),
    )
    return Progress(*columns, console=console(stderr=True), transient=True)


class PassProgress(Watcher):
    """Shows the pass that is running."""

    def __init__(self, progress: TerminalProgress) -> None:
        self._progress = progress
        self._task: Any = None

    def start(self, p: Pass, model: Model) -> None:
        """Show the pass."""
        self._task = self._progress.begin(p.name)

    def watch(self, p: Pass, before: Snapshot, after: Model, step: Step) -> None:
        """Take it away."""
        self._progress.end(self._task)


@contextmanager
def terminal_progress(quiet: bool) -> Iterator[TerminalProgress | None]:
    """The progress to use, or None where nobody would see it."""
    if quiet or not sys.stderr.isatty():
        yield None
        return
    progress = TerminalProgress()
    try:
        yield progress
    finally:
        progress.close()
