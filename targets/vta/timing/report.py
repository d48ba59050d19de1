"""What the timing models say of a program."""

from __future__ import annotations

from dataclasses import dataclass

from optc.targets.vta.isa import Module


@dataclass
class Activity:
    """Cycles that a module worked, waited for a token, waited for the read port; the rest it was idle."""

    busy: int = 0
    token: int = 0
    memory: int = 0


@dataclass(frozen=True)
class Report:
    """Cycles from launch to finish, each module's activity, and each instruction's (start, end).

    At its end an instruction has given its tokens; where instructions overlap, the next starts before.
    """

    cycles: int
    modules: dict[Module, Activity]
    spans: list[tuple[int, int]]
