"""The modules of `overlapped.py`: when their instructions pass the gate, begin, and end.

A time is None while it is not known: it follows from a burst that was not asked for yet.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Sequence
from typing import NamedTuple

from optc.targets.vta.asking import Asking, Port
from optc.targets.vta.bursts import Burst, framed
from optc.targets.vta.channels import moves
from optc.targets.vta.config import Config, Memory
from optc.targets.vta.figures import WORD_BYTES, Overlapped
from optc.targets.vta.isa import Alu, Finish, Gemm, Instruction, Load, Module
from optc.targets.vta.report import Activity


class Program:
    """What all units look at: the instructions, when fetch has brought each, and the tokens by their times."""

    def __init__(self, instructions: Sequence[Instruction], config: Config, timing: Overlapped) -> None:
        self.instructions, self.config, self.timing = instructions, config, timing
        self.moves = [moves(i) for i in instructions]
        self.arrivals: list[int] = []
        self.tokens: tuple[deque[int], ...] = tuple(deque() for _ in range(4))
        self.spans = [(0, 0)] * len(instructions)


class Job(NamedTuple):
    """An instruction that passed the gate at `time`, without its tokens at `ready`; a LOAD's bursts."""

    index: int
    time: int
    ready: int
    bursts: tuple[Burst, ...]
    tail: int


class Unit:
    """A module behind its gate: `ahead` instructions that passed may wait until those before them `begun`."""

    burst_bytes: int

    def __init__(self, program: Program, module: Module, ahead: int) -> None:
        self.program, self.timing, self._ahead = program, program.timing, ahead
        self.queue = [n for n, move in enumerate(program.moves) if move.module == module]
        self.gates: list[int] = []
        self.begun: list[int] = []
        self.jobs: deque[Job] = deque()
        self.activity = Activity()
        self._free = 0
        self.asking = Asking(self.timing.rows)

    @property
    def left(self) -> list[int]:
        """When each instruction left the queue in front of the gate."""
        return self.gates

    def step(self) -> bool:
        """Let pass, and run, what can; whether there was any."""
        before = len(self.gates), len(self.begun)
        while self._pass():
            pass
        while self.jobs and self.run(self.jobs[0]):
            self.jobs.popleft()
        return before != (len(self.gates), len(self.begun))

    def run(self, job: Job) -> bool:
        """Run it to its end, as far as that is known; False where it is not."""
        raise NotImplementedError

    def _pass(self) -> bool:
        passed, program = len(self.gates), self.program
        waits_for = passed - self._ahead
        if passed == len(self.queue) or waits_for >= len(self.begun):
            return False
        index = self.queue[passed]
        if index >= len(program.arrivals):
            return False
        ready = program.arrivals[index]
        if passed:
            ready = max(ready, self.gates[-1] + 1)
        if waits_for >= 0:
            ready = max(ready, self.begun[waits_for] + 1)
        time, pops = ready, program.moves[index].pops
        for channel in pops:
            if not program.tokens[channel]:
                return False
            time = max(time, program.tokens[channel][0])
        for channel in pops:
            program.tokens[channel].popleft()
        self.gates.append(time)
        self._accept(index, time, ready)
        return True

    def _accept(self, index: int, time: int, ready: int) -> None:
        insn = self.program.instructions[index]
        bursts: tuple[Burst, ...] = ()
        tail = 0
        if isinstance(insn, Load):
            bursts, tail = framed(insn, self.program.config, self.burst_bytes)
            self.asking.add(time + 1, bursts)
        self.jobs.append(Job(index, time, ready, bursts, tail))

    def end(self, job: Job, free: int, waited: int, tokens: int) -> None:
        """A job is over at `free`, having `waited` for memory, and gives its tokens at `tokens`."""
        self.program.spans[job.index] = (job.time, tokens)
        for channel in self.program.moves[job.index].pushes:
            self.program.tokens[channel].append(tokens)
        self.activity.token += max(0, job.time - max(job.ready, self._free))
        self.activity.memory += waited
        self.activity.busy += max(0, free - max(job.time, self._free) - waited)
        self._free = free
