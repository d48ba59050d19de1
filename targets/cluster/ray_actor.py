"""What runs in the process of a rank."""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from optc import __version__
from optc.targets.cluster.program import Program
from optc.targets.cluster.worker import Payload, Times, Worker, load_parts


@dataclass(frozen=True)
class Loaded:
    """An actor that is ready: optc's version there, its process, whether its tensors can stay on a GPU."""

    version: str
    process: int
    on_gpu: bool


class RankActor:
    """A rank as an actor of Ray: one thread, unless the artifact's target asks for more."""

    def __init__(self) -> None:
        os.environ["OMP_NUM_THREADS"] = "1"
        self._worker: Worker | None = None

    def load(self, folder: Path, program: Program, rank: int) -> Loaded:
        """Load the rank's parts. Raises what loading raises."""
        self._worker = Worker(program, rank, load_parts(folder, program, rank))
        return Loaded(__version__, os.getpid(), self._worker.on_gpu)

    def step(
        self, index: int, from_gpus: tuple[int, ...], to_gpus: tuple[int, ...], *arrived: Payload
    ) -> Any:
        """One step: what it sends, as the graph wants it: one value, or a tuple where there are more.

        Where something goes `to_gpus`, the last value is nothing, for `send` to wait for.
        """
        assert self._worker is not None
        answers = self._worker.run(index, arrived, from_gpus, to_gpus)
        if to_gpus or not answers:
            answers.append({})
        return answers[0] if len(answers) == 1 else tuple(answers)

    def send(self, index: int, to: int, _: Payload) -> Payload:
        """What a step has for step `to`, once it is done."""
        assert self._worker is not None
        return self._worker.send(index, to)

    def receive(self, index: int, sender: int, payload: Payload) -> Payload:
        """Take what step `sender` has for step `index`; nothing, for `step` to wait for."""
        assert self._worker is not None
        self._worker.receive(index, sender, payload)
        return {}

    def times(self) -> Times:
        """How busy it was."""
        assert self._worker is not None
        return self._worker.times
