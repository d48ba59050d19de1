"""When each rank of a program receives, runs and sends: its steps, and the edges between the steps of all."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from graphlib import CycleError, TopologicalSorter

from optc.models.errors import InputError
from optc.targets.cluster.program import CALLER, Collective, Message, Part, Program

Key = str | tuple[int, int]
"""A tensor by its name, or (collective, place): the piece from the rank at that place of its `ranks`."""


@dataclass(frozen=True)
class Step:
    """What `rank` does in one go: receive, run the part at `part` of its parts (None: nothing), send.

    `reads`: the tensors that it receives; `feeds`: those of them that the caller gives; `joins`: those that
    are results of a collective, by its number; `sends`: what goes to which steps.
    """

    rank: int
    part: int | None
    reads: tuple[str, ...]
    feeds: tuple[str, ...] = ()
    joins: tuple[int, ...] = ()
    sends: tuple[tuple[int, tuple[Key, ...]], ...] = ()


@dataclass(frozen=True)
class Steps:
    """All steps of a program in an order in which one after another can run, each rank's in its own order.

    `senders[i]`: the steps of other ranks that send to step i; `outputs`: for each step that has some, the
    names of the model's outputs that it answers with.
    """

    steps: tuple[Step, ...]
    senders: tuple[tuple[int, ...], ...]
    outputs: dict[int, tuple[str, ...]]


def steps_of(program: Program) -> Steps:
    """The steps of a program; `InputError` where a tensor comes from nowhere or ranks wait in a circle."""
    bare = [step for rank in range(len(program.ranks)) for step in _bare(program, rank)]
    home: dict[tuple[int, str], int] = {}
    for index, step in enumerate(bare):
        made = () if step.part is None else program.ranks[step.rank].parts[step.part].outputs
        for tensor in (*step.reads, *made):
            home.setdefault((step.rank, tensor), index)
    edges = [edge for index, step in enumerate(bare) for edge in _incoming(program, index, step, home)]
    order = _order(bare, edges)
    place = {old: new for new, old in enumerate(order)}
    steps = tuple(_complete(program, bare, old, edges, place) for old in order)
    senders = tuple(
        tuple(i for i, sender in enumerate(steps) if any(to == index for to, _ in sender.sends))
        for index in range(len(steps))
    )
    outputs: dict[int, tuple[str, ...]] = {}
    for name, rank in program.outputs.items():
        if rank == CALLER:
            continue
        where = place[home[rank, name]]
        outputs[where] = (*outputs.get(where, ()), name)
    return Steps(steps, senders, outputs)


def _bare(program: Program, rank: int) -> list[Step]:
    """The steps of a rank without edges: one per part, and one for what no part waits for, but others do."""
    steps: list[Step] = []
    seen: set[str] = set()
    made: set[str] = set()

    def relay(tensor: str) -> None:
        if tensor not in seen and not isinstance(program.source(rank, tensor), Part):
            bring(tensor)
            seen.add(tensor)
            steps.append(Step(rank, None, (tensor,)))

    def bring(tensor: str) -> None:
        source = program.source(rank, tensor)
        if isinstance(source, Collective):
            relay(source.source)

    for index, part in enumerate(program.ranks[rank].parts):
        given = [t for t in part.inputs if not isinstance(program.source(rank, t), Part) and t not in seen]
        if late := set(part.inputs) - seen - made - set(given):
            raise InputError(
                f"plan: part '{part.name}' of rank {rank} reads {sorted(late)} before the rank has it; "
                "partition it again"
            )
        for tensor in given:
            bring(tensor)
        seen.update(given)
        made.update(part.outputs)
        steps.append(Step(rank, index, tuple(given)))
    for tensor in _wanted(program, rank):
        relay(tensor)
    return steps


def _wanted(program: Program, rank: int) -> Iterable[str]:
    """What a rank has to have for others."""
    yield from (m.tensor for m in program.messages if m.source == rank)
    yield from (c.source for c in program.collectives if rank in c.ranks)
    yield from (name for name, where in program.outputs.items() if where == rank)


def _incoming(
    program: Program, index: int, step: Step, home: dict[tuple[int, str], int]
) -> Iterable[tuple[int, int, Key]]:
    """The edges into a step: from which step, to this one, with what."""
    for tensor in step.reads:
        source = program.source(step.rank, tensor)
        if isinstance(source, Message):
            yield home[source.source, tensor], index, tensor
        elif isinstance(source, Collective):
            number = program.collectives.index(source)
            for place, rank in enumerate(source.ranks):
                yield home[rank, source.source], index, (number, place)


def _order(steps: list[Step], edges: list[tuple[int, int, Key]]) -> list[int]:
    sorter: TopologicalSorter[int] = TopologicalSorter({index: () for index in range(len(steps))})
    for index in range(1, len(steps)):
        if steps[index].rank == steps[index - 1].rank:
            sorter.add(index, index - 1)
    for start, end, _ in edges:
        sorter.add(end, start)
    try:
        return list(sorter.static_order())
    except CycleError as error:
        ranks = sorted({steps[index].rank for index in error.args[1]})
        raise InputError(
            f"plan: ranks {ranks} wait for each other in a circle; partition it again"
        ) from error


def _complete(
    program: Program, steps: list[Step], index: int, edges: list[tuple[int, int, Key]], place: dict[int, int]
) -> Step:
    """A step with its edges, by the numbers of the final order; what it gives its own rank, it keeps."""
    step = steps[index]
    sends: dict[int, list[Key]] = {}
    for start, end, key in edges:
        if start == index and steps[end].rank != step.rank:
            sends.setdefault(place[end], []).append(key)
    sources = {tensor: program.source(step.rank, tensor) for tensor in step.reads}
    joins = tuple(program.collectives.index(s) for s in sources.values() if isinstance(s, Collective))
    feeds = tuple(tensor for tensor, source in sources.items() if source is None)
    ordered = tuple((to, tuple(keys)) for to, keys in sorted(sends.items()))
    return Step(step.rank, step.part, step.reads, feeds, joins, ordered)
