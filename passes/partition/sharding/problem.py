"""What one device of a tensor-parallel group does, as a problem that stages are cut from."""

from __future__ import annotations

from math import ceil

from optc.models.model import Model
from optc.passes.partition.cluster import Device, Link
from optc.passes.partition.problem import INPUT, Item, Problem, Value, Weight, of_graph
from optc.passes.partition.sharding.collectives import holds, received
from optc.passes.partition.sharding.layout import Sharding, Spec
from optc.passes.partition.sharding.work import Work


def sharded_problem(model: Model, sharding: Sharding, device: Device, link: Link) -> Problem:
    """`Problem.of` for the slowest or largest share of each item, value and weight.

    The sum of a node's terms is part of the node's seconds; any other collective is part of the first item
    that waits for it (of the item that makes the value, where only the caller waits). A value has the bytes
    of the layout that it was made in. What a reader receives of it in another one is a value of its own that
    lives as long as this reader runs, and so are terms; a result that is gathered is kept as such.
    """
    work = Work(model, device, link, sharding.devices)
    return _Shares(work, sharding).problem(of_graph(work.graph, [device]))


class _Shares:
    def __init__(self, work: Work, sharding: Sharding) -> None:
        self.work = work
        places = range(len(work.nodes))
        self.layouts = [sharding.layouts.get(work.names[p], work.whole(p)) for p in places]
        self.seconds = [work.seconds(p, self.layouts[p]) for p in places]
        self.readers: dict[str, list[tuple[int, Spec]]] = {}
        for place, layout in enumerate(self.layouts):
            for name, spec in work.reads(place, layout):
                self.readers.setdefault(name, []).append((place, spec))
        self.more: list[Value] = []

    def problem(self, base: Problem) -> Problem:
        values = [self._value(value) for value in base.values]
        items = tuple(
            Item(item.name, seconds, item.macs)
            for item, seconds in zip(base.items, self.seconds, strict=True)
        )
        weights = [share for weight in base.weights for share in self._weights(weight)]
        return Problem(items, tuple(values + self.more), tuple(weights), base.unknown)

    def _bytes(self, name: str, spec: Spec) -> int:
        return ceil(self.work.share(name, spec))

    def _value(self, value: Value) -> Value:
        """The value as it is made; notes what is received of it, and the time of that."""
        if value.producer == INPUT:
            return value
        name, place = value.name, value.producer
        layout = self.layouts[place]
        have = layout.outputs[list(self.work.nodes[place].output).index(name)]
        if have is None:
            return value
        if layout.reduce:
            self.more.append(Value(f"{name}: terms", place, (), value.bytes))
        late = [(reader, spec) for reader, spec in self.readers.get(name, []) if not holds(have, spec)]
        if value.kept:
            late.append((place, None))
            self.more.append(Value(f"{name}: whole", place, (), value.bytes, kept=True))
        for spec in received(have, [spec for _, spec in late]):
            waiting = [reader for reader, want in late if spec in (None, want)]
            self.seconds[waiting[0]] += self.work.move_seconds(name, have, spec)
            self.more += [
                Value(f"{name}: for {self.work.names[reader]}", reader, (), self._bytes(name, spec))
                for reader in dict.fromkeys(waiting)
                if reader != place
            ]
        return Value(name, place, value.readers, self._bytes(name, have))

    def _weights(self, weight: Weight) -> list[Weight]:
        """The parts of a constant, one for each layout that it is read in."""
        parts: dict[Spec, list[int]] = {}
        for reader, spec in self.readers.get(weight.name, []):
            parts.setdefault(spec, []).append(reader)
        if not parts:  # inside a node's subgraphs
            return [weight]
        return [
            Weight(weight.name, tuple(places), self._bytes(weight.name, s)) for s, places in parts.items()
        ]
