"""A partitioned model on Ray: an actor per rank, a compiled graph per replica, requests in, answers out."""

from __future__ import annotations

import time
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Self

from optc.models.errors import CheckError, InputError, MissingError, OptcError
from optc.models.session import first_line
from optc.targets.cluster.bell import wait
from optc.targets.cluster.program import Array, Part, Program
from optc.targets.cluster.ray_start import enter, import_ray
from optc.targets.cluster.worker import checked

if TYPE_CHECKING:
    from optc.targets.cluster.ray_replica import Answer, Job, Replica

STORE = 2**28
"""Bytes of Ray's object store beside what the messages of the program need."""


@dataclass(frozen=True)
class RankMetrics:
    """How busy a rank was since its actor started, as `process`: seconds in steps and between, requests.

    `nccl`: what it sends to other such ranks stays on the GPU.
    """

    replica: int
    rank: int
    stage: int
    process: int
    busy: float
    waiting: float
    micro_batches: int
    nccl: bool


@dataclass(frozen=True)
class Metrics:
    """Of every rank, and of every replica: requests answered, and a second of `run`; `restarts` of actors."""

    ranks: tuple[RankMetrics, ...]
    answered: tuple[int, ...]
    throughput: tuple[float, ...]
    restarts: int


class RayEngine:
    """Runs a program whose artifacts are the folders of `folder` named after its parts.

    `replicas` of it share the requests; in each are at most `in_flight` at once (default: its stages + 1).
    Ray is started on this machine, or joined at `address` (HOST:PORT, auto), where `folder` has to be at the
    same path on every machine and optc of the same version. Raises `MissingError` without Ray, or without
    enough GPUs or cores in the cluster; `InputError` where an artifact is missing, damaged or another part's;
    `CheckError` where a rank's process dies at once.
    """

    def __init__(
        self,
        folder: Path,
        program: Program,
        replicas: int = 1,
        in_flight: int | None = None,
        address: str | None = None,
    ) -> None:
        self._program = program
        self._in_flight = program.stages + 1 if in_flight is None else in_flight
        if replicas < 1 or self._in_flight < 1:
            raise InputError("replicas and requests in flight are at least 1 each")
        import_ray()
        gpus = _gpus(folder, program)
        processes = replicas * len(program.ranks)
        self._leave = enter(address, processes, _store_bytes(program, self._in_flight * replicas))
        self._replicas: list[Replica] = []
        self._answered = [0] * replicas
        self._seconds = 0.0
        self._running = False
        try:
            _check_resources(processes, replicas * sum(gpus))
            self._start(folder.resolve(), replicas, gpus)
        except BaseException:
            self.close()
            raise

    def _start(self, folder: Path, replicas: int, gpus: tuple[int, ...]) -> None:
        from optc.targets.cluster.ray_replica import Replica

        ray_error = import_ray().exceptions.RayError
        for number in range(replicas):
            self._replicas.append(Replica(number, folder, self._program, self._in_flight, gpus))
            try:
                self._replicas[-1].start()
            except ray_error as error:
                raise CheckError(f"the ranks do not start: {first_line(error)}") from error

    def run(self, requests: Iterable[Mapping[str, Array]]) -> Iterator[Answer]:
        """Answer the requests (arrays by input name) in their order: outputs by name, or an `OptcError`.

        `requests` is drawn no further ahead of the answers than requests fit in. One that a part refuses is
        answered with the `InputError`; one that was in a replica when an actor died is repeated, and answered
        with a `CheckError` where that happens three times. Its arrays must not change before it is answered.
        """
        if self._running:
            raise RuntimeError("one run at a time")
        self._running = True
        start = time.monotonic()
        try:
            yield from self._run(iter(requests))
        finally:
            self._running = False
            self._seconds += time.monotonic() - start
            for replica in self._replicas:
                replica.abandon()

    def _run(self, requests: Iterator[Mapping[str, Array]]) -> Iterator[Answer]:
        from optc.targets.cluster.ray_replica import Job

        answers: dict[int, Answer] = {}
        drawn, given, drained = 0, 0, False
        since = time.monotonic()
        while not drained or given < drawn:
            number = max(range(len(self._replicas)), key=lambda n: self._replicas[n].room)
            free = self._replicas[number].room > 0 and drawn - given < self._in_flight * len(self._replicas)
            if free and not drained:
                feeds = next(requests, None)
                if feeds is None:
                    drained = True
                    continue
                if (wrong := self._refuse(feeds)) is not None:
                    answers[drawn] = InputError(f"request {drawn}: {wrong}")
                else:
                    self._take(number, self._replicas[number].submit(Job(drawn, feeds)), answers)
                drawn += 1
                continue
            before = len(answers)
            for number, replica in enumerate(self._replicas):
                self._take(number, replica.poll(), answers)
            if len(answers) > before or given in answers:
                since = time.monotonic()
            if given in answers:
                yield answers.pop(given)
                given += 1
            else:
                wait([bell for replica in self._replicas for bell in replica.bells], since)

    def _take(self, number: int, done: list[tuple[Job, Answer]], answers: dict[int, Answer]) -> None:
        for job, answer in done:
            answers[job.index] = answer
            self._answered[number] += 1

    def _refuse(self, feeds: Mapping[str, Array]) -> str | None:
        """Why a request cannot be one of this model."""
        names = ", ".join(self._program.inputs)
        for name in self._program.inputs:
            if name not in feeds:
                return f"no array for the input '{name}'; the model takes {names}"
        for name in feeds:
            if name not in self._program.inputs:
                return f"the model has no input '{name}'; it takes {names}"
        return None

    def metrics(self) -> Metrics:
        """How busy everything was."""
        ranks = []
        for number, replica in enumerate(self._replicas):
            for rank, t in replica.times().items():
                stage, process = self._program.ranks[rank].stage, replica.processes[rank]
                nccl = rank in replica.by_nccl
                ranks.append(
                    RankMetrics(number, rank, stage, process, t.busy, t.waiting, t.micro_batches, nccl)
                )
        throughput = tuple(n / self._seconds if self._seconds else 0.0 for n in self._answered)
        restarts = sum(replica.restarts for replica in self._replicas)
        return Metrics(tuple(ranks), tuple(self._answered), throughput, restarts)

    def close(self) -> None:
        """End the actors, and Ray where it was started for them."""
        for replica in self._replicas:
            replica.close()
        self._replicas = []
        self._leave()
        self._leave = lambda: None

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *error: object) -> None:
        self.close()


def _gpus(folder: Path, program: Program) -> tuple[int, ...]:
    """How many GPUs each rank needs, by the targets of its artifacts."""
    return tuple(
        int(any([_target(folder, index, part) == "cuda" for part in rank.parts]))
        for index, rank in enumerate(program.ranks)
    )


def _target(folder: Path, rank: int, part: Part) -> str:
    """The target of a part's artifact."""
    try:
        return checked(folder, part).target.name
    except OptcError as error:
        raise type(error)(f"rank {rank}, part '{part.name}': {error}") from error


def _store_bytes(program: Program, copies: int) -> int:
    """Room for every message, before and after its channel has grown to it, and for the model's own ends."""
    channels = len(program.messages) + sum(len(c.ranks) ** 2 for c in program.collectives)
    moved = sum(m.bytes for m in program.messages) + sum(c.bytes * len(c.ranks) for c in program.collectives)
    return STORE + copies * (2 * moved + channels * 10**6)


def _check_resources(processes: int, gpus: int) -> None:
    """`MissingError` where the cluster would never have room for the actors."""
    found = import_ray().cluster_resources()
    for what, needed in (("CPU", processes), ("GPU", gpus)):
        if found.get(what, 0) < needed:
            raise MissingError(f"the program needs {needed} {what}s, Ray has {int(found.get(what, 0))} here")
