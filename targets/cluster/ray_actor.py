"""What runs in the process of a rank."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

from optc import __version__
from optc.targets.cluster.program import Program
from optc.targets.cluster.worker import Payload, Times, Worker, load_parts


class RankActor:
    """A rank as an actor of Ray: one thread, unless the artifact's target asks for more."""

    def __init__(self) -> None:
        os.environ["OMP_NUM_THREADS"] = "1"
        self._worker: Worker | None = None

    def load(self, folder: Path, program: Program, rank: int) -> tuple[str, int]:
        """Load the rank's parts; optc's version here and the process. Raises what loading raises."""
        self._worker = Worker(program, rank, load_parts(folder, program, rank))
        return __version__, os.getpid()

    def step(self, index: int, *arrived: Payload) -> Any:
        """One step: what it sends, as the graph wants it: one value, or a tuple where there are more."""
        assert self._worker is not None
        answers = self._worker.run(index, arrived)
        if not answers:
            return {}
        return answers[0] if len(answers) == 1 else tuple(answers)

    def times(self) -> Times:
        """How busy it was."""
        assert self._worker is not None
        return self._worker.times
