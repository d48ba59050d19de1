"""How a program that breaks a rule is refused."""

from __future__ import annotations

from optc.models.errors import InputError


class CheckFailure(InputError):
    """A rule is broken: `rule` names it, `instruction` is the index of the first that does."""

    def __init__(self, instruction: int, rule: str, reason: str) -> None:
        super().__init__(f"instruction {instruction}: {reason} [{rule}]")
        self.instruction = instruction
        self.rule = rule
