"""In which order a program's instructions may run: queues, tokens and the fetch unit."""

from __future__ import annotations

import random
from collections import deque
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field

from optc.targets.vta.channels import Channel, moves
from optc.targets.vta.device import SimulationError
from optc.targets.vta.isa import Finish, Instruction

QUEUE_LIMIT = 512
"""Instructions that wait in front of a module; fetch stalls behind a full queue."""
TOKEN_LIMIT = 255
"""Tokens that a FIFO counts."""


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
        self.moves = [moves(i) for i in self.instructions]
        for index, move in enumerate(self.moves):
            if move.wrong:
                raise SimulationError(
                    index, f"{move.wrong} is set, but {move.module.name} has no such neighbour"
                )
        self.fetch()

    def fetch(self) -> None:
        """Send instructions to their queues, in program order, until one of these is full."""
        while self.fetched < len(self.moves):
            queue = self.waiting[self.moves[self.fetched].module]
            if len(queue) == QUEUE_LIMIT:
                return
            queue.append(self.fetched)
            self.fetched += 1

    def ready(self) -> list[int]:
        """The first of each queue, where its tokens are there."""
        heads = [queue[0] for queue in self.waiting if queue]
        found = [k for k in heads if self._has_tokens(k)]
        if not found:
            raise _deadlock(min(heads), self)
        if self.finish is not None:
            raise SimulationError(
                found[0], f"runs after the FINISH at {self.finish}; FINISH must wait for it"
            )
        return found

    def _has_tokens(self, index: int) -> bool:
        return all(self.tokens[channel] for channel in self.moves[index].pops)

    def done(self, index: int) -> None:
        """Take the tokens that `index` waited for, give those it pushes, fetch on."""
        module, pops, pushes, _ = self.moves[index]
        self.waiting[module].popleft()
        for channel in pops:
            self.tokens[channel] -= 1
        for channel in pushes:
            self.tokens[channel] += 1
            if self.tokens[channel] > TOKEN_LIMIT:
                raise SimulationError(index, f"over {TOKEN_LIMIT} tokens wait from {channel}")
        if isinstance(self.instructions[index], Finish):
            self.finish = index
        self.fetch()

    def check_end(self) -> None:
        """The program ended as it must."""
        last = len(self.instructions) - 1
        if self.finish is None:
            raise SimulationError(last, "the program ends without FINISH")
        for name, count in zip(Channel, self.tokens, strict=True):
            if count:
                raise SimulationError(self.finish, f"{count} tokens from {name} are left at FINISH")


def _deadlock(index: int, queues: _Queues) -> SimulationError:
    missing = next(c for c in queues.moves[index].pops if not queues.tokens[c])
    return SimulationError(index, f"deadlock: it waits for a token from {missing} that never comes")
