"""In which order a program's instructions may run: queues, tokens and the fetch unit."""

from __future__ import annotations

import random
from collections import deque
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field

from optc.targets.vta.device import SimulationError
from optc.targets.vta.isa import Finish, Instruction, Module, module_of

QUEUE_LIMIT = 512
"""Instructions that wait in front of a module; fetch stalls behind a full queue."""
TOKEN_LIMIT = 255
"""Tokens that a FIFO counts."""

CHANNELS = ("load to compute", "compute to load", "compute to store", "store to compute")
_POPS = (
    {"pop_next": 1},
    {"pop_prev": 0, "pop_next": 3},
    {"pop_prev": 2},
)
_PUSHES = (
    {"push_next": 0},
    {"push_prev": 1, "push_next": 2},
    {"push_prev": 3},
)


def legal_order(instructions: Sequence[Instruction], seed: int | None) -> Iterator[int]:
    """Indices in an order that the machine may take; the caller executes one before it asks for the next.

    Of the instructions that are ready, `seed` None takes the first of the program, an integer any one.
    Raises `SimulationError` on flags that a module lacks, deadlock, a token too many, tokens left over,
    and a FINISH that is missing or not the last to run.
    """
    queues = _Queues(instructions)
    pick = random.Random(seed).choice if seed is not None else min
    for _ in instructions:
        index = pick(queues.ready())
        yield index
        queues.done(index)
    queues.check_end()


@dataclass
class _Queues:
    """What is fetched and waits, per module, and the tokens under way, per channel."""

    instructions: Sequence[Instruction]
    waiting: tuple[deque[int], ...] = field(default_factory=lambda: (deque(), deque(), deque()))
    tokens: list[int] = field(default_factory=lambda: [0, 0, 0, 0])
    fetched: int = 0
    finish: int | None = None

    def __post_init__(self) -> None:
        self.modules = [module_of(i) for i in self.instructions]
        self.pops = [_channels(k, i, _POPS) for k, i in enumerate(self.instructions)]
        self.pushes = [_channels(k, i, _PUSHES) for k, i in enumerate(self.instructions)]
        self.fetch()

    def fetch(self) -> None:
        """Send instructions to their queues, in program order, until one of these is full."""
        while self.fetched < len(self.modules):
            queue = self.waiting[self.modules[self.fetched]]
            if len(queue) == QUEUE_LIMIT:
                return
            queue.append(self.fetched)
            self.fetched += 1

    def ready(self) -> list[int]:
        """The first of each queue, where its tokens are there."""
        heads = [queue[0] for queue in self.waiting if queue]
        found = [k for k in heads if all(self.tokens[c] for c in self.pops[k])]
        if not found:
            raise _deadlock(min(heads), self)
        if self.finish is not None:
            raise SimulationError(
                found[0], f"runs after the FINISH at {self.finish}; FINISH must wait for it"
            )
        return found

    def done(self, index: int) -> None:
        """Take the tokens that `index` waited for, give those it pushes, fetch on."""
        self.waiting[self.modules[index]].popleft()
        for channel in self.pops[index]:
            self.tokens[channel] -= 1
        for channel in self.pushes[index]:
            self.tokens[channel] += 1
            if self.tokens[channel] > TOKEN_LIMIT:
                raise SimulationError(index, f"over {TOKEN_LIMIT} tokens wait from {CHANNELS[channel]}")
        if isinstance(self.instructions[index], Finish):
            self.finish = index
        self.fetch()

    def check_end(self) -> None:
        """The program ended as it must."""
        last = len(self.instructions) - 1
        if self.finish is None:
            raise SimulationError(last, "the program ends without FINISH")
        for name, count in zip(CHANNELS, self.tokens, strict=True):
            if count:
                raise SimulationError(self.finish, f"{count} tokens from {name} are left at FINISH")


def _channels(index: int, instruction: Instruction, table: tuple[dict[str, int], ...]) -> tuple[int, ...]:
    """The channels of the flags that are set."""
    module = module_of(instruction)
    flags = ("pop_prev", "pop_next") if table is _POPS else ("push_prev", "push_next")
    names = [f for f in flags if getattr(instruction, f)]
    for name in names:
        if name not in table[module]:
            raise SimulationError(index, f"{name} is set, but {Module(module).name} has no such neighbour")
    return tuple(table[module][name] for name in names)


def _deadlock(index: int, queues: _Queues) -> SimulationError:
    missing = next(c for c in queues.pops[index] if not queues.tokens[c])
    return SimulationError(index, f"deadlock: it waits for a token from {CHANNELS[missing]} that never comes")
