"""From dependencies between instructions to the tokens that keep them."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import replace
from typing import Any

from optc.targets.vta.channels import Channel
from optc.targets.vta.isa import Instruction, Module

_FLAGS = {
    Channel.LOAD_TO_COMPUTE: ("push_next", "pop_prev"),
    Channel.COMPUTE_TO_LOAD: ("push_prev", "pop_next"),
    Channel.COMPUTE_TO_STORE: ("push_next", "pop_prev"),
    Channel.STORE_TO_COMPUTE: ("push_prev", "pop_next"),
}
"""What the first instruction pushes, and the last one pops."""


def assign(
    instructions: Sequence[Instruction], modules: Sequence[Module], edges: Iterable[tuple[int, int]]
) -> list[Instruction]:
    """`instructions` with the flags that make `last` start after `first` for each of `edges`.

    Tokens carry no name: the n-th pop on a channel takes the n-th push. A dependency is left out where a
    later `first` is awaited by the same or an earlier `last`; what is left rises on both sides.
    """
    flags: list[dict[str, Any]] = [{} for _ in instructions]
    for channel in Channel:
        source, sink = channel.ends
        mine = [(last, first) for first, last in edges if (modules[first], modules[last]) == (source, sink)]
        newest, done = -1, -1
        push, pop = _FLAGS[channel]
        for last, first in sorted(mine, key=lambda e: (e[0], -e[1])):
            if first > newest and last > done:
                flags[first][push] = flags[last][pop] = True
                newest, done = first, last
    return [replace(i, **f) if f else i for i, f in zip(instructions, flags, strict=True)]
