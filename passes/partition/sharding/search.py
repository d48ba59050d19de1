"""The fastest sharding of a model: a layout for every node, by dynamic programming along the graph."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from optc.models.model import Model
from optc.passes.partition.cluster import Device, Link
from optc.passes.partition.sharding.collectives import holds, received
from optc.passes.partition.sharding.layout import Layout, Sharding, Spec
from optc.passes.partition.sharding.work import Work

BEAM = 64
"""States that are followed; the search is exact where there are never more."""

_DEAR = 1.0
"""Seconds that a byte of weights costs where nothing but bytes counts."""

_ROUNDS = 10
"""Prices of a byte that are tried."""

Lying = tuple[int, int, int]
"""A value, the layout that it lies in, and the set of layouts, a bit each, that it was received in."""

State = tuple[Lying, ...]
"""The values that are not whole and still to be read, in the order in which they were made."""

_WHOLE = 0
"""The number of the layout of a value that is whole."""


def shard(
    model: Model, device: Device, link: Link, count: int, weights: int | None = None, beam: int = BEAM
) -> Sharding:
    """The layouts over `count` devices like `device`, linked by `link`, that take least time by the model.

    Exact where no more than `beam` states are alive at once. Never slower than every node whole; where
    nothing is gained, all are. `weights`: the bytes of constants that a device has room for; the fastest
    layouts found that keep to it, the ones of fewest bytes where none do.
    """
    work = Work(model, device, link, count)
    search = _Search(work)
    found = search.run(beam)
    if weights is not None and work.weight_bytes(found) > weights:
        found = _lighter(search, weights, max(1, beam // 4))
    both = enumerate(zip(work.names, found, strict=True))
    return Sharding(count, {name: layout for i, (name, layout) in both if layout != work.whole(i)})


def _lighter(search: _Search, weights: int, beam: int) -> list[Layout]:
    """The layouts for the lowest price of a byte of weights, in seconds, at which they keep to `weights`."""
    low, high = 0.0, _DEAR
    best = search.run(beam, high)
    if search.work.weight_bytes(best) > weights:
        return best
    for _ in range(_ROUNDS):
        price = (low + high) / 2 if low else high / 1024
        found = search.run(beam, price)
        if search.work.weight_bytes(found) > weights:
            low = price
        else:
            high, best = price, found
    return best


@dataclass(frozen=True)
class _Choice:
    """A layout of a node: what it takes, reads and writes; values and layouts by their numbers.

    `weights`: the bytes of the constants that a device reads.
    """

    layout: Layout
    seconds: float
    weights: float
    reads: tuple[tuple[int, int], ...]
    writes: tuple[Lying, ...]


class _Search:
    def __init__(self, work: Work) -> None:
        self.work = work
        self.values = {name: number for number, name in enumerate(work.makers)}
        self.names = list(work.makers)
        self.specs: list[Spec] = [None]
        self.numbers: dict[Spec, int] = {None: _WHOLE}
        self.costs: dict[Lying, float] = {}
        self.held: dict[tuple[int, int], bool] = {}
        self.ending = self._ending()
        self.choices = [self._choices(place, found) for place, found in enumerate(work.layouts())]

    def run(self, beam: int, price: float = 0.0) -> list[Layout]:
        """The layouts of the nodes in order, where a byte of weights costs `price` seconds."""
        states: dict[State, float] = {(): 0.0}
        steps: list[dict[State, tuple[State, _Choice]]] = []
        for choices, ending in zip(self.choices, self.ending, strict=True):
            found: dict[State, float] = {}
            step: dict[State, tuple[State, _Choice]] = {}
            for state, seconds in states.items():
                for choice in choices:
                    after, more = self._after(state, choice, ending)
                    more += price * choice.weights
                    if seconds + more < found.get(after, float("inf")):
                        found[after] = seconds + more
                        step[after] = (state, choice)
            states = self._best(found, beam)
            steps.append(step)
        layouts = []
        at: State = ()
        for step in reversed(steps):
            at, choice = step[at]
            layouts.append(choice.layout)
        return layouts[::-1]

    def _best(self, states: dict[State, float], beam: int) -> dict[State, float]:
        """The fastest states, and the one in which all is whole.

        From that one everything can be read for nothing. So a state is of no use that takes longer than some
        other with all its values gathered.
        """
        most = min(seconds + self._gather(state) for state, seconds in states.items()) * (1 + 1e-12)
        kept = sorted((seconds, state) for state, seconds in states.items() if seconds <= most)[:beam]
        found = {state: seconds for seconds, state in kept}
        return found | {(): states[()]} if () in states else found

    def _gather(self, state: State) -> float:
        """Seconds to make all values whole."""
        return sum(
            self._cost(value, have, got | 1) - self._cost(value, have, got) for value, have, got in state
        )

    def _after(self, state: State, choice: _Choice, ending: frozenset[int]) -> tuple[State, float]:
        """The state after a choice, and the seconds that it and the collectives before it take."""
        seconds = choice.seconds
        if not state:
            return choice.writes, seconds
        lying = {value: (have, got) for value, have, got in state}
        for value, want in choice.reads:
            if value in lying:
                have, got = lying[value]
                now = self._receive(have, got, want)
                if now != got:
                    seconds += self._cost(value, have, now) - self._cost(value, have, got)
                    lying[value] = have, now
        left = tuple((v, have, got) for v, (have, got) in lying.items() if v not in ending)
        return left + choice.writes, seconds

    def _receive(self, have: int, got: int, want: int) -> int:
        """What was received in `got` layouts, and now in `want`; whole, it is there in all layouts."""
        if got & 1 or want == have or got >> want & 1:
            return got
        pair = have, want
        if pair not in self.held:
            self.held[pair] = holds(self.specs[have], self.specs[want])
        if self.held[pair]:
            return got
        return got | 1 << want

    def _cost(self, value: int, have: int, got: int) -> float:
        """Seconds of the collectives that bring a value into all the layouts `got`."""
        key = value, have, got
        if key not in self.costs:
            wanted = [spec for number, spec in enumerate(self.specs) if got >> number & 1]
            name, spec = self.names[value], self.specs[have]
            self.costs[key] = sum(self.work.move_seconds(name, spec, s) for s in received(spec, wanted))
        return self.costs[key]

    def _choices(self, place: int, layouts: Iterable[Layout]) -> list[_Choice]:
        node = self.work.nodes[place]
        found = []
        for layout in layouts:
            reads = tuple(
                (self.values[name], self._number(spec))
                for name, spec in self.work.reads(place, layout)
                if name in self.values
            )
            seconds = self.work.seconds(place, layout)
            writes = []
            for name, spec in zip(node.output, layout.outputs, strict=True):
                if name and spec is not None:
                    lying = self.values[name], self._number(spec), int(name in self.work.kept)
                    seconds += self._cost(*lying)
                    if self.values[name] not in self.ending[place]:
                        writes.append(lying)
            weights = self.work.weight_bytes([layout], place)
            found.append(_Choice(layout, seconds, weights, reads, tuple(writes)))
        return found

    def _number(self, spec: Spec) -> int:
        if spec not in self.numbers:
            self.numbers[spec] = len(self.specs)
            self.specs.append(spec)
        return self.numbers[spec]

    def _ending(self) -> list[frozenset[int]]:
        """The values that no node after this one reads."""
        last = dict(enumerate(self.work.makers.values()))
        for place in range(len(self.work.nodes)):
            read = self.work.reads(place, self.work.whole(place))
            last |= {self.values[name]: place for name, _ in read if name in self.values}
        ending: list[set[int]] = [set() for _ in self.work.nodes]
        for value, place in last.items():
            ending[place].add(value)
        return [frozenset(values) for values in ending]
