"""A rank at work: its parts loaded, the tensors of the request that it is at, and how long all takes."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from optc.models.errors import CheckError, InputError, OptcError
from optc.models.session import first_line
from optc.targets.artifact import Artifact, load
from optc.targets.base import Runner
from optc.targets.cluster import gpu_tensors
from optc.targets.cluster.gpu_tensors import Value
from optc.targets.cluster.program import Collective, Part, Program
from optc.targets.cluster.steps import Key, Step, Steps, steps_of


@dataclass(frozen=True)
class Failure:
    """What goes through the ranks in the place of tensors once a part has failed."""

    error: OptcError


Payload = dict[Key, Value | None] | Failure
"""What a step sends to another: tensors and pieces by key."""


@dataclass
class Times:
    """Seconds in steps, seconds between them, and requests that went through."""

    busy: float = 0.0
    waiting: float = 0.0
    micro_batches: int = 0


class Worker:
    """Rank number `rank` of a program; `runners` by the names of its parts.

    What a step sends to ranks with GPUs goes through `send` and `receive`, and stays on the GPU where this
    rank has one; all else goes through `run`, and the host.
    """

    def __init__(self, program: Program, rank: int, runners: Mapping[str, Runner]) -> None:
        self._program = program
        self._rank = rank
        self._runners = runners
        self._steps: Steps = steps_of(program)
        mine = [index for index, step in enumerate(self._steps.steps) if step.rank == rank]
        self._first, self._last = (mine[0], mine[-1]) if mine else (-1, -1)
        self._values: dict[str, Value] = {}
        self._pieces: dict[Key, Value | None] = {}
        self._failure: Failure | None = None
        self._received: dict[tuple[int, int], Payload] = {}
        self._to_send: dict[tuple[int, int], Payload] = {}
        self.on_gpu = any([gpu_tensors.on_gpu(r) for r in runners.values()]) and gpu_tensors.usable()
        """Whether its tensors can stay on a GPU."""
        self._ended: float | None = None
        self.times = Times()

    def run(
        self,
        index: int,
        arrived: Sequence[Payload],
        from_gpus: Sequence[int] = (),
        to_gpus: Sequence[int] = (),
    ) -> list[Payload]:
        """Do step `index` with what arrived; what it sends, in the order of `sends`, outputs at the end.

        What the steps `from_gpus` sent was given to `receive`, and what goes to the steps `to_gpus` is kept
        for `send`. Where an earlier step or this one has failed, everything it sends is the `Failure`.
        """
        start = time.perf_counter()
        self.times.waiting += start - (start if self._ended is None else self._ended)
        step = self._steps.steps[index]
        if index == self._first:
            self._forget()
        received = [self._received.pop((index, s)) for s in from_gpus]
        answers = self._guarded(index, step, [*arrived, *received], to_gpus)
        if index == self._last:
            self._forget()
            self.times.micro_batches += 1
        self._ended = time.perf_counter()
        self.times.busy += self._ended - start
        return answers

    def send(self, index: int, to: int) -> Payload:
        """What step `index` has for step `to` of a rank with a GPU."""
        return self._to_send.pop((index, to))

    def receive(self, index: int, sender: int, payload: Payload) -> None:
        """Take what step `sender` of a rank with a GPU has for step `index`."""
        self._received[index, sender] = payload

    def _guarded(
        self, index: int, step: Step, arrived: Sequence[Payload], to_gpus: Sequence[int]
    ) -> list[Payload]:
        names = self._steps.outputs.get(index, ())
        self._failure = self._failure or next((p for p in arrived if isinstance(p, Failure)), None)
        sent: dict[int, Payload] = {}
        outputs: Payload = {}
        if self._failure is None:
            try:
                self._do(step, [payload for payload in arrived if not isinstance(payload, Failure)])
                sent = {to: self._payload(to, keys, to in to_gpus) for to, keys in step.sends}
                outputs = {name: gpu_tensors.to_host(self._values[name]) for name in names}
            except Exception as error:
                self._failure = Failure(self._explain(step, error))
        if self._failure is not None:
            sent, outputs = {to: self._failure for to, _ in step.sends}, self._failure
        self._to_send |= {(index, to): sent[to] for to in to_gpus}
        answers = [payload for to, payload in sent.items() if to not in to_gpus]
        return [*answers, outputs] if names else answers

    def _do(self, step: Step, arrived: Sequence[dict[Key, Value | None]]) -> None:
        for payload in arrived:
            for key, value in payload.items():
                if isinstance(key, tuple):
                    self._pieces[key] = value
                elif value is not None:
                    self._values[key] = value
        for number in step.joins:
            collective = self._program.collectives[number]
            pieces = [self._piece(number, collective, place) for place in range(len(collective.ranks))]
            self._values[collective.result] = gpu_tensors.join(collective, pieces)
        if step.part is not None:
            part = self._program.ranks[self._rank].parts[step.part]
            self._values |= self._run(part, {name: self._values[name] for name in part.inputs})

    def _run(self, part: Part, feeds: dict[str, Value]) -> Mapping[str, Value]:
        runner = self._runners[part.name]
        if self.on_gpu and gpu_tensors.on_gpu(runner):
            return gpu_tensors.run(runner, feeds)
        return runner.run({name: gpu_tensors.to_host(value) for name, value in feeds.items()})

    def _payload(self, to: int, keys: Sequence[Key], gpu: bool) -> Payload:
        """What step `to` gets, on the host unless it may stay on the `gpu`."""
        found = {key: self._item(key, self._steps.steps[to].rank) for key in keys}
        return found if gpu else {k: v if v is None else gpu_tensors.to_host(v) for k, v in found.items()}

    def _piece(self, number: int, collective: Collective, place: int) -> Value | None:
        """What this rank gets from the one at `place`, itself included."""
        if collective.ranks[place] == self._rank:
            to = collective.to.index(self._rank)
            return collective.piece(place, to, self._values[collective.source])
        return self._pieces[number, place]

    def _item(self, key: Key, to: int) -> Value | None:
        """What rank `to` gets: a tensor, or its piece of a collective's source."""
        if isinstance(key, str):
            return self._values[key]
        collective = self._program.collectives[key[0]]
        piece = collective.piece(key[1], collective.to.index(to), self._values[collective.source])
        return None if piece is None else gpu_tensors.contiguous(piece)

    def _forget(self) -> None:
        self._values, self._pieces, self._failure = {}, {}, None

    def _explain(self, step: Step, error: Exception) -> OptcError:
        part = self._program.ranks[self._rank].parts[step.part].name if step.part is not None else None
        where = f"rank {self._rank}" + (f", part '{part}'" if part is not None else "")
        if isinstance(error, OptcError):
            return type(error)(f"{where}: {error}")
        return CheckError(f"{where}: {type(error).__name__}: {first_line(error)}")


def load_parts(folder: Path, program: Program, rank: int) -> dict[str, Runner]:
    """The parts of a rank, loaded; `InputError` where one is missing, damaged, or another's artifact."""
    runners = {}
    for part in program.ranks[rank].parts:
        try:
            runners[part.name] = checked(folder, part).runner()
        except OptcError as error:
            raise type(error)(f"rank {rank}, part '{part.name}': {error}") from error
    return runners


def checked(folder: Path, part: Part) -> Artifact:
    """The artifact of a part; `InputError` where it is missing, damaged, or not the part's."""
    artifact = load(folder / part.name)
    for what, names in (("inputs", part.inputs), ("outputs", part.outputs)):
        found = sorted(spec["name"] for spec in artifact.manifest[what])
        if found != sorted(names):
            raise InputError(
                f"{folder / part.name}: another part's artifact: its {what} are {', '.join(found)}, the plan "
                f"says {', '.join(sorted(names))}; partition the model again"
            )
    return artifact
