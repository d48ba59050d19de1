"""Between which modules an instruction's tokens go."""

from __future__ import annotations

from enum import IntEnum
from functools import cache
from typing import NamedTuple

from optc.targets.vta.isa import Instruction, Module, module_of


class Channel(IntEnum):
    """A counter of tokens from one module to its neighbour."""

    LOAD_TO_COMPUTE = 0
    COMPUTE_TO_LOAD = 1
    COMPUTE_TO_STORE = 2
    STORE_TO_COMPUTE = 3

    @property
    def ends(self) -> tuple[Module, Module]:
        """The module that pushes, and the one that pops."""
        first, _, last = self.name.partition("_TO_")
        return Module[first], Module[last]

    def __str__(self) -> str:
        return self.name.lower().replace("_", " ")


class Moves(NamedTuple):
    """The module of an instruction, the channels of its flags, and a flag that its module has not, or ""."""

    module: Module
    pops: tuple[Channel, ...]
    pushes: tuple[Channel, ...]
    wrong: str


def moves(instruction: Instruction) -> Moves:
    """What `instruction` does with tokens."""
    i = instruction
    return _moves(module_of(i), (i.pop_prev, i.pop_next), (i.push_prev, i.push_next))


@cache
def _moves(module: Module, pop: tuple[bool, bool], push: tuple[bool, bool]) -> Moves:
    found: dict[str, list[Channel]] = {"pop": [], "push": []}
    wrong = ""
    for verb, flags in (("pop", pop), ("push", push)):
        for side, step, flag in (("prev", -1, flags[0]), ("next", 1, flags[1])):
            other = module + step
            if flag and not 0 <= other <= Module.STORE:
                wrong = f"{verb}_{side}"
            elif flag:
                ends = (other, module) if verb == "pop" else (module, other)
                found[verb].append(next(c for c in Channel if c.ends == ends))
    return Moves(module, tuple(found["pop"]), tuple(found["push"]), wrong)
