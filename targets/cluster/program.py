"""What the ranks of a partitioned model do: the parts that each runs, and the tensors that go between them.

A rank is a device's share of the work. It runs its parts in order; before a part it waits for the tensors
that the part reads: graph inputs from the caller, messages from ranks of other stages, results of collectives
with the ranks of its own stage, and what its own earlier parts left. A program describes one replica; with
data parallelism there are several alike.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from copy import deepcopy
from dataclasses import dataclass
from functools import cached_property
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from optc.models.errors import InputError

Array = NDArray[Any]
Kind = Literal["all_reduce", "reduce_scatter", "all_gather", "all_to_all", "halo"]


@dataclass(frozen=True)
class Part:
    """A model that a rank runs in one go: an artifact in the folder `name` of the plan.

    `inputs`, `outputs`: names of tensors; `seconds`: predicted time on the rank's device.
    """

    name: str
    inputs: tuple[str, ...]
    outputs: tuple[str, ...]
    seconds: float


@dataclass(frozen=True)
class Message:
    """A tensor of `bytes` that rank `source` has and rank `to`, of a later stage, reads by the same name."""

    tensor: str
    source: int
    to: int
    bytes: int


@dataclass(frozen=True)
class Collective:
    """The `ranks` of a stage give `source`; the ranks of `to`, of that or of a later stage, get `result`.

    `reduce`: the sources are terms, and results are of their sum; else the source of the i-th of `ranks` is
    the part `have[i]` of the whole along `axis`. `need[i]` is what the i-th of `to` gets of the whole along
    `need_axis`; without `need`, each gets all of it. `bytes` is the size of the whole tensor.
    """

    source: str
    result: str
    ranks: tuple[int, ...]
    to: tuple[int, ...]
    bytes: int
    reduce: bool = False
    axis: int = 0
    have: tuple[tuple[int, int], ...] = ()
    need_axis: int = 0
    need: tuple[tuple[int, int], ...] = ()

    @property
    def kind(self) -> Kind:
        """What it is called."""
        if self.reduce:
            return "reduce_scatter" if self.need else "all_reduce"
        if not self.need:
            return "all_gather"
        return "halo" if self.axis == self.need_axis else "all_to_all"

    def piece(self, source: int, to: int, array: Array) -> Array | None:
        """What the giver at place `source` sends to the getter at place `to`: a view of its `array`."""
        if not self.need:
            return array
        start, stop = self.need[to]
        if not self.reduce and self.axis == self.need_axis:
            low, high = self.have[source]
            start, stop = max(start, low) - low, min(stop, high) - low
            if start >= stop:
                return None
        return array[(slice(None),) * self.need_axis + (slice(start, stop),)]

    def piece_bytes(self, source: int, to: int) -> int:
        """The size of `piece`."""
        share = 1.0
        whole = max((stop for _, stop in self.have), default=1)
        start, stop = self.have[source] if self.have else (0, 1)
        if self.need:
            low, high = self.need[to]
            if not self.reduce and self.axis == self.need_axis:
                start, stop = max(start, low), max(min(stop, high), max(start, low))
            else:
                share = (high - low) / max(stop for _, stop in self.need)
        return round(self.bytes * share * (stop - start) / whole)

    def join(
        self, pieces: Sequence[Array | None], concatenate: Callable[..., Array] = np.concatenate
    ) -> Array:
        """What a getter gets, from the pieces in the order of `ranks`: the same in every run."""
        found = [piece for piece in pieces if piece is not None]
        if not self.reduce:
            return concatenate(found, self.axis)
        total = deepcopy(found[0])
        for piece in found[1:]:
            total += piece
        return total


@dataclass(frozen=True)
class Rank:
    """Rank `tensor` of stage `stage`: the parts that it runs, in order."""

    stage: int
    tensor: int
    parts: tuple[Part, ...]


CALLER = -1
"""In place of a rank: whoever runs the program."""


@dataclass(frozen=True)
class Program:
    """The ranks of one replica by number (stage × tensor ranks + tensor), and what goes between them.

    `inputs`: the model's; each goes whole to every rank with a part that reads it. `outputs`: the model's, by
    name, with the rank that has it (`CALLER`: it is an input).
    """

    ranks: tuple[Rank, ...]
    messages: tuple[Message, ...]
    collectives: tuple[Collective, ...]
    inputs: tuple[str, ...]
    outputs: Mapping[str, int]

    @property
    def stages(self) -> int:
        """How many stages there are."""
        return self.ranks[-1].stage + 1

    @property
    def tensor(self) -> int:
        """How many ranks share the work of a stage."""
        return len(self.ranks) // self.stages

    def source(self, rank: int, tensor: str) -> Part | Message | Collective | None:
        """Where `rank` gets `tensor` from: a part of its own, a message, a collective; None: the caller."""
        found = self._sources.get((rank, tensor))
        if found is None and tensor not in self.inputs:
            raise InputError(f"plan: rank {rank} reads '{tensor}', which nobody gives it; partition it again")
        return found

    @cached_property
    def _sources(self) -> dict[tuple[int, str], Part | Message | Collective]:
        found: dict[tuple[int, str], Part | Message | Collective] = {}
        for collective in self.collectives:
            found.update(((rank, collective.result), collective) for rank in collective.to)
        found.update(((message.to, message.tensor), message) for message in self.messages)
        for number, rank in enumerate(self.ranks):
            found.update(((number, name), part) for part in rank.parts for name in part.outputs)
        return found

    def givers(self, rank: int, tensor: str) -> list[tuple[int, str]]:
        """The ranks whose parts make what `rank` puts `tensor` together from, and under which names."""
        source = self.source(rank, tensor)
        if isinstance(source, Collective):
            return [(giver, source.source) for giver in source.ranks]
        if isinstance(source, Message):
            return [(source.source, tensor)]
        return [] if source is None else [(rank, tensor)]

    @cached_property
    def order(self) -> list[tuple[int, Part]]:
        """The parts with their ranks, each behind all that it waits for (`InputError`: they are circular)."""
        done: set[tuple[int, str]] = set()
        places = [0] * len(self.ranks)
        order: list[tuple[int, Part]] = []
        total = sum(len(rank.parts) for rank in self.ranks)
        while len(order) < total:
            before = len(order)
            for number, rank in enumerate(self.ranks):
                while places[number] < len(rank.parts):
                    part = rank.parts[places[number]]
                    if not all(done.issuperset(self.givers(number, name)) for name in part.inputs):
                        break
                    done.update((number, name) for name in part.outputs)
                    order.append((number, part))
                    places[number] += 1
            if len(order) == before:
                waiting = next(
                    r.parts[p].name for r, p in zip(self.ranks, places, strict=True) if p < len(r.parts)
                )
                raise InputError(
                    f"plan: part '{waiting}' waits for what only comes after it; partition it again"
                )
        return order
