"""The errors that optc shows to a person: one line each, with the exit status of the command line."""

from __future__ import annotations


class OptcError(Exception):
    """An error whose text is one clear line: what, where, and what to do.

    `exit_status` is what the command line exits with; `node` names the graph node, where there is one.
    """

    exit_status = 1

    def __init__(self, message: str, node: str | None = None) -> None:
        super().__init__(message)
        self.node = node


class CheckError(OptcError):
    """A check failed: a contract, a regression, a budget (exit status 1)."""

    exit_status = 1


class InputError(OptcError):
    """Bad usage or bad input (exit status 2)."""

    exit_status = 2


class MissingError(OptcError):
    """Something is missing on this machine: a GPU, an extra, a tool (exit status 3); says how to get it."""

    exit_status = 3
