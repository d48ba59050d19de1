"""One replica of a program on Ray: its actors, its graph, the requests in it, and what becomes of them when
an actor dies.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import ray
from ray.exceptions import GetTimeoutError, RayActorError, RayError, RayTaskError

from optc import __version__
from optc.models.errors import CheckError, InputError, OptcError
from optc.models.session import first_line
from optc.targets.cluster import gpu_tensors
from optc.targets.cluster.bell import Bell
from optc.targets.cluster.program import CALLER, Array, Program
from optc.targets.cluster.ray_actor import Loaded, RankActor
from optc.targets.cluster.ray_graph import Graph
from optc.targets.cluster.steps import steps_of
from optc.targets.cluster.worker import Failure, Payload, Times

REPEATS = 2
"""How often a request is repeated that was in a replica when an actor of it died."""

PATIENCE = 10.0
"""Seconds that an actor which does nothing else has to answer."""


class RankDied(RayError):  # type: ignore[misc]
    """An actor that died before it could do anything."""


Answer = dict[str, Array] | OptcError
"""What a request is answered with: the outputs by name, or why there are none."""


@dataclass
class Job:
    """Request number `index`, and how often it was sent into a replica."""

    index: int
    feeds: Mapping[str, Array]
    tries: int = 0


class Replica:
    """Replica `number` of a program whose artifacts are in `folder`; `gpus[rank]` is what each rank needs."""

    def __init__(
        self, number: int, folder: Path, program: Program, in_flight: int, gpus: tuple[int, ...]
    ) -> None:
        self._number = number
        self._folder = folder
        self._program = program
        self._schedule = steps_of(program)
        self._in_flight = in_flight
        self._gpus = gpus
        self._actors: dict[int, Any] = {}
        self._graph: Graph | None = None
        self._flying: deque[tuple[Job, Any]] = deque()
        self._again: deque[Job] = deque()
        self.restarts = 0
        self._on_gpu: dict[int, bool] = {}
        self.by_nccl: frozenset[int] = frozenset()
        """The ranks whose tensors go to each other from GPU to GPU."""
        self.processes: dict[int, int] = {}
        """The process of each rank, on its machine."""

    def start(self) -> None:
        """Start the actors that are missing, all at once, and compile the graph.

        Where one cannot load its rank, those that were started end again. `RayError` where one dies.
        """
        missing = [rank for rank in range(len(self._program.ranks)) if rank not in self._actors]
        for rank in missing:
            actor = ray.remote(RankActor).options(num_cpus=1, num_gpus=self._gpus[rank], max_restarts=0)
            self._actors[rank] = actor.remote()
        loads = [self._actors[rank].load.remote(self._folder, self._program, rank) for rank in missing]
        try:
            for rank, load in zip(missing, loads, strict=True):
                self._await(rank, load)
        except BaseException:
            for rank in missing:
                ray.kill(self._actors.pop(rank))
            raise
        self.by_nccl = self._between_gpus()
        actors = [self._actors[rank] for rank in sorted(self._actors)]
        self._graph = Graph(self._schedule, actors, self._in_flight, self.by_nccl)

    def _await(self, rank: int, load: Any) -> None:
        try:
            loaded: Loaded = ray.get(load)
        except RayTaskError as error:
            if isinstance(error.cause, OptcError):
                raise error.cause from error
            raise InputError(f"rank {rank}: its process cannot load it: {first_line(error.cause)}") from error
        except RayError as error:
            raise RankDied(f"rank {rank}: its process died while it loaded: {first_line(error)}") from error
        if loaded.version != __version__:
            raise InputError(
                f"rank {rank}: optc is {loaded.version} there and {__version__} here; install the same one"
            )
        self.processes[rank] = loaded.process
        self._on_gpu[rank] = loaded.on_gpu

    def _between_gpus(self) -> frozenset[int]:
        """The ranks whose tensors can go to each other from GPU to GPU."""
        ranks = frozenset(rank for rank, gpu in self._on_gpu.items() if gpu)
        return ranks if len(ranks) > 1 and gpu_tensors.installed() else frozenset()

    @property
    def room(self) -> int:
        """How many requests more it takes now: one at a time while some are repeated, so that one request
        that kills an actor does not take others with it.
        """
        careful = bool(self._again) or any(job.tries > 1 for job, _ in self._flying)
        return (1 if careful else self._in_flight) - len(self._flying) - len(self._again)

    @property
    def bells(self) -> list[Bell]:
        """What rings when there may be an answer."""
        return [] if self._graph is None else self._graph.bells

    def submit(self, job: Job) -> list[tuple[Job, Answer]]:
        """Send a request in; its answer comes from `poll`. Where an actor is dead, what is given up."""
        job.tries += 1
        self._flying.append((job, None))
        try:
            if self._graph is None:
                self.start()
            assert self._graph is not None
            self._flying[-1] = (job, self._graph.submit(job.feeds))
        except RayError as error:
            return self._recover(error)
        return []

    def poll(self) -> list[tuple[Job, Answer]]:
        """The requests that are answered by now, without waiting."""
        done: list[tuple[Job, Answer]] = []
        try:
            while self._flying and self._graph is not None and self._graph.ready():
                job, submitted = self._flying[0]
                done.append((job, self._answer(job, self._graph.get(submitted))))
                self._flying.popleft()
        except RayError as error:
            done += self._recover(error)
        if self._again and not self._flying:
            done += self.submit(self._again.popleft())
        return done

    def _answer(self, job: Job, payloads: list[Payload]) -> Answer:
        found: dict[Any, Array | None] = {}
        for payload in payloads:
            if isinstance(payload, Failure):
                return type(payload.error)(f"request {job.index}: {payload.error}")
            found |= payload
        outputs = self._program.outputs.items()
        return {n: np.array(job.feeds[n] if rank == CALLER else found[n]) for n, rank in outputs}

    def _recover(self, error: RayError) -> list[tuple[Job, Answer]]:
        """Take the broken graph down, and put the unanswered requests up for repetition, or give them up."""
        jobs = [job for job, _ in self._flying]
        self._take_down()
        dead = self._bury()
        who = " and ".join(f"rank {rank}" for rank in dead)
        what = f"{who} of replica {self._number} died" if dead else f"its graph broke ({first_line(error)})"
        self._again.extendleft(job for job in reversed(jobs) if job.tries <= REPEATS)
        return [
            (job, CheckError(f"request {job.index}: {what}, as in {REPEATS} tries before"))
            for job in jobs
            if job.tries > REPEATS
        ]

    def _take_down(self) -> None:
        if self._graph is not None:
            self._graph.close()
            self._graph = None
        self._flying.clear()

    def _bury(self) -> list[int]:
        """The ranks whose actors are dead, or do not answer any more; they are started anew."""
        calls = {rank: actor.times.remote() for rank, actor in self._actors.items()}
        dead = []
        for rank, call in calls.items():
            try:
                ray.get(call, timeout=PATIENCE)
            except (RayActorError, GetTimeoutError):
                ray.kill(self._actors.pop(rank))
                dead.append(rank)
        self.restarts += len(dead)
        return dead

    def abandon(self) -> None:
        """Drop what is unanswered, and the graph that it is in; the next request compiles it anew."""
        self._again.clear()
        if self._flying:
            self._take_down()

    def times(self) -> dict[int, Times]:
        """How busy each rank was since its actor was started."""
        return {rank: ray.get(actor.times.remote()) for rank, actor in sorted(self._actors.items())}

    def close(self) -> None:
        """End the actors."""
        self._take_down()
        for actor in self._actors.values():
            ray.kill(actor)
        self._actors.clear()
