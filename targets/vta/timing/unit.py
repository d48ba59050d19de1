"""A module behind its gate: when its instructions pass, and what an end means to others."""

from __future__ import annotations

from collections import deque
from collections.abc import Sequence
from typing import NamedTuple

from optc.targets.vta.channels import moves
from optc.targets.vta.config import Config
from optc.targets.vta.isa import Instruction, Module
from optc.targets.vta.timing.bursts import Burst
from optc.targets.vta.timing.figures import Overlapped
from optc.targets.vta.timing.report import Activity


class Program:
    """The instructions, when fetch has brought each, and the tokens by the times they were given."""

    def __init__(self, instructions: Sequence[Instruction], config: Config, timing: Overlapped) -> None:
        self.instructions, self.config, self.timing = instructions, config, timing
        self.moves = [moves(i) for i in instructions]
        self.arrivals: list[int] = []
        self.tokens: tuple[deque[int], ...] = tuple(deque() for _ in range(4))
        self.spans = [(0, 0)] * len(instructions)


class Job(NamedTuple):
    """An instruction that passed the gate at `time`, from `ready` on but for its tokens; a LOAD's bursts."""

    number: int
    time: int
    ready: int
    bursts: tuple[Burst, ...] = ()
    tail: int = 0


class Unit:
    """A module: `gates` and `begun` say when its instructions passed the gate, and began."""

    def __init__(self, program: Program, module: Module, ahead: int) -> None:
        self.program, self.timing, self._ahead = program, program.timing, ahead
        self.queue = [n for n, move in enumerate(program.moves) if move.module == module]
        self.gates: list[int] = []
        self.begun: list[int] = []
        self.activity = Activity()
        self._jobs: deque[Job] = deque()
        self._free = self._ended = 0

    @property
    def left(self) -> list[int]:
        """When each instruction left the queue in front of the gate."""
        return self.gates

    def step(self) -> bool:
        """Let pass, and run, what can; whether there was any."""
        before = self._progress()
        while (job := self._pass()) is not None:
            self._jobs.append(job)
        while self._jobs and self._run(self._jobs[0]):
            self._jobs.popleft()
        return self._progress() != before

    def _progress(self) -> int:
        return len(self.gates) + len(self.begun) + self._ended

    def _pass(self) -> Job | None:
        """The next instruction, if it is known when it passes: fetched, with room for it and its tokens."""
        passed, program = len(self.gates), self.program
        waits_for = passed - self._ahead
        if passed == len(self.queue) or waits_for >= len(self.begun):
            return None
        index = self.queue[passed]
        if index >= len(program.arrivals):
            return None
        ready = max(program.arrivals[index], self.gates[-1] + 1 if passed else 0)
        if waits_for >= 0:
            ready = max(ready, self.begun[waits_for] + 1)
        given = [program.tokens[channel] for channel in program.moves[index].pops]
        if not all(given):
            return None
        time = max([ready, *(tokens.popleft() for tokens in given)])
        self.gates.append(time)
        return self._job(index, time, ready)

    def _job(self, index: int, time: int, ready: int) -> Job:
        return Job(index, time, ready)

    def _run(self, job: Job) -> bool:
        """Run it, to its end if that is known: only then True."""
        raise NotImplementedError

    def _end(self, job: Job, free: int, tokens: int, waited: int = 0) -> None:
        """It is over at `free`, gives its tokens at `tokens`, and has `waited` for memory."""
        self.program.spans[job.number] = (job.time, tokens)
        for channel in self.program.moves[job.number].pushes:
            self.program.tokens[channel].append(tokens)
        self.activity.token += max(0, job.time - max(job.ready, self._free))
        self.activity.memory += waited
        self.activity.busy += max(0, free - max(job.time, self._free) - waited)
        self._free = free
        self._ended += 1
