"""Names of nodes: how passes call them, and the patterns by which users choose among them."""

from __future__ import annotations

from fnmatch import fnmatchcase

import onnx_graphsurgeon as gs

from optc.models.errors import InputError

_SHOWN = 12


def layer_name(node: gs.Node) -> str:
    """The node's name, or its output's where it has none."""
    return str(node.name or node.outputs[0].name)


def match_patterns(who: str, names: list[str], patterns: tuple[str, ...], what: str = "layer") -> list[str]:
    """The `names` of layers, or `what` they are, that match one of the patterns (`fnmatch`, with case).

    Raises `InputError`, naming those there are, for a pattern that matches nothing; `who` says whose.
    """
    for pattern in patterns:
        if not any(fnmatchcase(name, pattern) for name in names):
            more = f" and {len(names) - _SHOWN} more" if len(names) > _SHOWN else ""
            known = ", ".join(names[:_SHOWN]) or "none"
            raise InputError(f"{who}: no {what} matches '{pattern}'; the {what}s are {known}{more}")
    return [name for name in names if any(fnmatchcase(name, p) for p in patterns)]


def chosen_names(who: str, names: list[str], layers: tuple[str, ...], skip: tuple[str, ...]) -> set[str]:
    """The `names` that match the patterns `layers` (all, where there are none), without those of `skip`.

    Raises `InputError` as `match_patterns` does.
    """
    taken, skipped = (match_patterns(who, names, patterns) for patterns in (layers, skip))
    return set(taken if layers else names) - set(skipped)
