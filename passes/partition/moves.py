"""Improving a plan by moving items between neighbouring stages, seeded and within a budget of steps."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from random import Random

import numpy as np
from numpy.typing import NDArray

from optc.passes.partition.cluster import Link
from optc.passes.partition.order import edges
from optc.passes.partition.problem import INPUT, Problem

STEPS = 40_000
"""Moves tried at most; in small problems `PER_ITEM` for each item."""

PER_ITEM = 100

GROUP = 24
"""Items that one move takes along at most."""

_SHARPNESS = 16
"""The power of the sum over the stages that moves make smaller: high, so that the slowest counts most."""

Ints = NDArray[np.int64]

Links = Sequence[Sequence[Link | None]]
"""[sender][receiver], None for a stage with itself."""


class Moves:
    """A partition that is changed move by move, its stages' seconds kept up to date."""

    def __init__(self, problem: Problem, links: Links, stage: Sequence[int]) -> None:
        self.problem, self.links = problem, links
        self.count = len(links)
        self.stage = list(stage)
        self.placed: Ints = np.array(stage)
        self._before, self._after = edges(problem)
        self._made: list[list[int]] = [[] for _ in problem.items]
        self._read: list[list[int]] = [[] for _ in problem.items]
        self._members: list[list[int]] = [[] for _ in range(self.count)]
        self._slot = [0] * len(problem.items)
        self._times = [problem.on(at) for at in range(self.count)]
        self.compute = [0.0] * self.count
        for place, at in enumerate(stage):
            self.compute[at] += self._times[at][place]
            self._slot[place] = len(self._members[at])
            self._members[at].append(place)
        self._sent = [[0] * self.count for _ in range(self.count)]
        self._readers: list[dict[int, int]] = []
        for number, value in enumerate(problem.values):
            readers: dict[int, int] = {}
            for reader in value.readers:
                self._read[reader].append(number)
                readers[stage[reader]] = readers.get(stage[reader], 0) + 1
            self._readers.append(readers)
            if value.producer != INPUT:
                self._made[value.producer].append(number)
                self._send(number, stage[value.producer], 1)

    def seconds(self, at: int) -> float:
        """What stage `at` takes to compute and to receive."""
        total = self.compute[at]
        for source in range(at):
            size = self._sent[source][at]
            link = self.links[source][at]
            if size and link is not None:
                total += link.seconds(size)
        return total

    def followers(self, place: int) -> list[int]:
        """The items that read what `place` makes."""
        return self._after[place]

    def group(self, place: int, step: int) -> list[int] | None:
        """What must move along when `place` goes to the stage `step` (±1) from its own, itself first.

        None: over `GROUP` items, or all of the stage, or there is no such stage.
        """
        at = self.stage[place]
        if not 0 <= at + step < self.count:
            return None
        follow = self._after if step > 0 else self._before
        found = [place]
        seen = {place}
        for item in found:  # grows while it is walked
            for other in follow[item]:
                if self.stage[other] == at and other not in seen:
                    seen.add(other)
                    found.append(other)
            if len(found) > GROUP:
                return None
        return found if len(found) < len(self._members[at]) else None

    def move(self, group: Sequence[int], to: int) -> None:
        """Put the items into stage `to`."""
        for place in group:
            self._move(place, to)

    def _move(self, place: int, to: int) -> None:
        at = self.stage[place]
        for number in self._made[place]:
            self._send(number, at, -1)
        self.stage[place] = self.placed[place] = to
        for number in self._made[place]:
            self._send(number, to, 1)
        for number in self._read[place]:
            self._reread(number, at, to)
        self.compute[at] -= self._times[at][place]
        self.compute[to] += self._times[to][place]
        last = self._members[at].pop()
        if last != place:
            self._members[at][self._slot[place]] = last
            self._slot[last] = self._slot[place]
        self._slot[place] = len(self._members[to])
        self._members[to].append(place)

    def _send(self, number: int, source: int, sign: int) -> None:
        size = sign * self.problem.values[number].bytes
        for to in self._readers[number]:
            if to != source:
                self._sent[source][to] += size

    def _reread(self, number: int, at: int, to: int) -> None:
        """One reader of the value goes from stage `at` to `to`."""
        value = self.problem.values[number]
        readers = self._readers[number]
        source = self.stage[value.producer] if value.producer != INPUT else INPUT
        readers[at] -= 1
        if not readers[at]:
            del readers[at]
            if source not in (INPUT, at):
                self._sent[source][at] -= value.bytes
        if to not in readers and source not in (INPUT, to):
            self._sent[source][to] += value.bytes
        readers[to] = readers.get(to, 0) + 1

    def random_item(self, at: int, step: int, random: Random) -> int:
        """An item of stage `at`, with luck one that can leave it alone in the direction of `step`."""
        members = self._members[at]
        follow = self._after if step > 0 else self._before
        place = members[random.randrange(len(members))]
        for _ in range(30):
            if all(self.stage[other] != at for other in follow[place]):
                break
            inner = [other for other in follow[place] if self.stage[other] == at]
            if random.random() < 0.3:
                break
            place = inner[random.randrange(len(inner))]
        return place


def improve(
    problem: Problem,
    links: Links,
    stage: Sequence[int],
    fits: Callable[[Ints, int], bool],
    seed: int,
) -> list[int]:
    """A partition that is no slower than `stage`; `fits(stage, s)` says whether stage s's memory suffices."""
    state = Moves(problem, links, stage)
    random = Random(seed)
    seconds = [state.seconds(at) for at in range(state.count)]
    scale = max(seconds) or 1.0
    powers = [(s / scale) ** _SHARPNESS for s in seconds]
    best, slowest = list(stage), max(seconds)
    for _ in range(min(STEPS, PER_ITEM * len(stage)) if state.count > 1 else 0):
        at = max(range(state.count), key=seconds.__getitem__)
        if random.random() < 0.5:
            at = random.randrange(state.count)
        step = random.choice((-1, 1))
        group = state.group(state.random_item(at, step, random), step)
        if group is None:
            continue
        # Readers further on receive from another stage after the move.
        touched = {at, at + step, *(state.stage[o] for i in group for o in state.followers(i))}
        state.move(group, at + step)
        new = {s: state.seconds(s) for s in touched}
        new_powers = {s: (value / scale) ** _SHARPNESS for s, value in new.items()}
        worse = sum(new_powers.values()) >= sum(powers[s] for s in touched)
        if worse or not (fits(state.placed, at) and fits(state.placed, at + step)):
            state.move(group[::-1], at)
            continue
        for s, value in new.items():
            seconds[s], powers[s] = value, new_powers[s]
        if max(seconds) < slowest:
            best, slowest = list(state.stage), max(seconds)
    return best
