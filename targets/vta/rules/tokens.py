"""Tokens: deadlock, balance, limits; and what is known to be done before an instruction starts."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from optc.targets.vta.device import SimulationError
from optc.targets.vta.isa import Instruction, Module, module_of
from optc.targets.vta.order import TOKEN_LIMIT, legal_order
from optc.targets.vta.rules.failure import CheckFailure

Clock = tuple[int, int, int]
"""How many instructions of each module have ended."""

_CHANNELS = ((Module.LOAD, Module.COMPUTE), (Module.COMPUTE, Module.LOAD)) + (
    (Module.COMPUTE, Module.STORE),
    (Module.STORE, Module.COMPUTE),
)
"""From which module to which a channel's tokens go."""


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
        self._pushed: dict[tuple[Module, Module], list[Clock]] = {c: [] for c in _CHANNELS}
        self._popped: dict[tuple[Module, Module], list[int]] = {c: [] for c in _CHANNELS}

    def advance(self, index: int) -> None:
        """Run instruction `index`, whose tokens are there."""
        instruction = self.instructions[index]
        module = module_of(instruction)
        known = self._known[module]
        for channel in _channels(instruction, module, "pop"):
            known = _later(known, self._pushed[channel][len(self._popped[channel])])
            self._popped[channel].append(self.count[module])
        self.before[index] = known
        self.count[module] += 1
        self.place[index] = self.count[module]
        done = tuple(self.count[m] if m == module else known[m] for m in Module)
        self._known[module] = (done[0], done[1], done[2])
        for channel in _channels(instruction, module, "push"):
            self._pushed[channel].append(self._known[module])
            self._check_limit(index, channel, known[channel[1]])

    def _check_limit(self, index: int, channel: tuple[Module, Module], ended: int) -> None:
        """The tokens that can wait at once: those whose pops are not known to lie behind."""
        popped = sum(place < ended for place in self._popped[channel][-TOKEN_LIMIT - 1 :])
        skipped = max(0, len(self._popped[channel]) - TOKEN_LIMIT - 1)
        waiting = len(self._pushed[channel]) - skipped - popped
        if waiting > TOKEN_LIMIT:
            names = f"{channel[0].name} to {channel[1].name}"
            raise CheckFailure(
                index, "token-limit", f"{waiting} tokens may wait from {names}, {TOKEN_LIMIT} fit"
            )


def _channels(instruction: Instruction, module: Module, verb: str) -> list[tuple[Module, Module]]:
    """The channels that `instruction` pops or pushes."""
    found = []
    for side, step in (("prev", -1), ("next", 1)):
        if getattr(instruction, f"{verb}_{side}"):
            other = Module(module + step)
            found.append((other, module) if verb == "pop" else (module, other))
    return found


def _later(a: Clock, b: Clock) -> Clock:
    return max(a[0], b[0]), max(a[1], b[1]), max(a[2], b[2])
