"""Running the ranks of a program one after the other in this process."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from typing import Any

from numpy.typing import NDArray

from optc.targets.base import Runner
from optc.targets.cluster.program import CALLER, Collective, Message, Part, Program

Arrays = dict[str, NDArray[Any]]


class LocalEngine:
    """Runs a program without any parallelism: what other engines have to agree with.

    `runners`: what runs each part, by the part's name.
    """

    def __init__(self, program: Program, runners: Mapping[str, Runner]) -> None:
        self.program, self.runners = program, runners

    def run(self, requests: Iterable[Mapping[str, NDArray[Any]]]) -> Iterator[Arrays]:
        """The outputs of each request, in order; `InputError` where a part refuses its inputs."""
        return (self.run_one(request) for request in requests)

    def run_one(self, feeds: Mapping[str, NDArray[Any]]) -> Arrays:
        """The model's outputs by name for its inputs by name."""
        held: list[Arrays] = [{} for _ in self.program.ranks]
        for rank, part in self.program.order:
            inputs = {name: self._get(held, rank, name, feeds) for name in part.inputs}
            held[rank].update(self.runners[part.name].run(inputs))
        outputs = self.program.outputs
        return {n: feeds[n] if rank == CALLER else held[rank][n] for n, rank in outputs.items()}

    def _get(
        self, held: list[Arrays], rank: int, name: str, feeds: Mapping[str, NDArray[Any]]
    ) -> NDArray[Any]:
        source = self.program.source(rank, name)
        if isinstance(source, Part):
            return held[rank][name]
        if isinstance(source, Message):
            return held[source.source][name]
        if isinstance(source, Collective):
            place = source.to.index(rank)
            given = [held[giver][source.source] for giver in source.ranks]
            return source.join([source.piece(i, place, array) for i, array in enumerate(given)])
        return feeds[name]
