"""Tokens: deadlock, balance, limits; and what is known to be done before an instruction starts."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from optc.targets.vta.channels import Channel, moves
from optc.targets.vta.device import SimulationError
from optc.targets.vta.isa import Instruction, Module
from optc.targets.vta.order import TOKEN_LIMIT, legal_order
from optc.targets.vta.rules.failure import CheckFailure

Clock = tuple[int, int, int]
"""How many instructions of each module have ended."""


@dataclass(frozen=True)
class Timeline:
    """`order`: indices in an order that may happen; `before`: by index, what must have ended when it starts.

    `place`: by index, the number of its module's instructions up to and including it.
    """

    order: list[int]
    before: list[Clock]
    place: list[int]


def check_tokens(instructions: Sequence[Instruction]) -> Timeline:
    """Prove that every order ends, with no token too many or left over (`CheckFailure`).

    Modules run in order, so whether a program can get stuck does not depend on the order (a Kahn network).
    """
    try:
        order = list(legal_order(instructions, None))
    except SimulationError as error:
        raise CheckFailure(error.index, "tokens", error.reason) from error
    clocks = _Clocks(instructions)
    for index in order:
        clocks.advance(index)
    last = len(instructions) - 1
    for module, total in zip(Module, clocks.count, strict=True):
        if module != Module.COMPUTE and clocks.before[last][module] != total:
            raise CheckFailure(
                last, "finish", f"FINISH does not wait for the last {module.name}; let it pop a token of it"
            )
    return Timeline(order, clocks.before, clocks.place)


class _Clocks:
    """Vector clocks over the three modules (Lamport's happens-before)."""

    def __init__(self, instructions: Sequence[Instruction]) -> None:
        self.instructions = instructions
        self.before: list[Clock] = [(0, 0, 0)] * len(instructions)
        self.place = [0] * len(instructions)
        self.count = [0, 0, 0]
        self._known: list[Clock] = [(0, 0, 0)] * 3
        self._pushed: dict[Channel, list[Clock]] = {c: [] for c in Channel}
        self._popped: dict[Channel, list[int]] = {c: [] for c in Channel}

    def advance(self, index: int) -> None:
        """Run instruction `index`, whose tokens are there."""
        module, pops, pushes, _ = moves(self.instructions[index])
        known = self._known[module]
        for channel in pops:
            known = _later(known, self._pushed[channel][len(self._popped[channel])])
            self._popped[channel].append(self.count[module])
        self.before[index] = known
        self.count[module] += 1
        self.place[index] = self.count[module]
        done = tuple(self.count[m] if m == module else known[m] for m in Module)
        self._known[module] = (done[0], done[1], done[2])
        for channel in pushes:
            self._pushed[channel].append(self._known[module])
            self._check_limit(index, channel, known[channel.ends[1]])

    def _check_limit(self, index: int, channel: Channel, ended: int) -> None:
        """The tokens that can wait at once: those whose pops are not known to lie behind."""
        popped = sum(place < ended for place in self._popped[channel][-TOKEN_LIMIT - 1 :])
        skipped = max(0, len(self._popped[channel]) - TOKEN_LIMIT - 1)
        waiting = len(self._pushed[channel]) - skipped - popped
        if waiting > TOKEN_LIMIT:
            raise CheckFailure(
                index, "token-limit", f"{waiting} tokens may wait from {channel}, {TOKEN_LIMIT} fit"
            )


def _later(a: Clock, b: Clock) -> Clock:
    return max(a[0], b[0]), max(a[1], b[1]), max(a[2], b[2])
