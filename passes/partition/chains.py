"""Chains of down-sets: plans whose stages, of any convex shape, take less than a limit, messages included.

Stage after stage, each growing item by item. A state is what matters for the items to come: the down-set that
is done, and which of the values that others still read come from one stage, as they share a message; within a
stage also its seconds so far and what it has received. Stages whose links to all later stages are equal may
be swapped, and states that differ only in this are one. A state is dropped where another is as good whatever
comes: it has paid for the same, or is ahead by what it lacks.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from optc.passes.partition.chains_kernel import extend
from optc.passes.partition.downsets import DownSets
from optc.passes.partition.moves import Links

Floats = NDArray[np.float64]
Ints = NDArray[np.int64]
Bools = NDArray[np.bool_]
Shorts = NDArray[np.int16]


@dataclass(frozen=True)
class Found:
    """What a search came to: a plan below its limit, or `none`: there is no such plan; neither: it gave up.

    `work`: about the pairs of states that were held against each other.
    """

    work: int
    none: bool
    stage: list[int] | None = None


@dataclass(frozen=True)
class _Level:
    """States: sets, by pending value the stage (or one that may be swapped with it), and the state before."""

    sets: Ints
    stages: Shorts
    back: Ints


class Chains:
    """The chains along `sets`; `times[stage, item]` are seconds, memory does not count."""

    def __init__(self, sets: DownSets, times: Floats, links: Links) -> None:
        self._sets, self._times, self._links = sets, times, links
        kinds, kind = np.unique(times, axis=0, return_inverse=True)
        self._seconds: Floats = (sets.member @ kinds.T).T[kind.reshape(-1)]
        self._width = max(int(np.diff(sets.pending.at).max()), 1)

    def search(self, most: float, work: int, kept: int, relaxed: bool = False) -> Found:
        """A plan whose stages all take less than `most` seconds, unless it takes more than `work`.

        `kept`: states of one set that it keeps, the fastest ones. `relaxed`: messages of stages that may be
        swapped count as one, which is less work: the plan may take longer, but where there is none there is
        none. `none` holds for plans along the sets.
        """
        with np.errstate(over="ignore"):
            windows = self._windows(most)
        stages = np.zeros((1, self._width), np.int16)
        levels = [_Level(np.zeros(1, np.int64), stages, np.zeros(1, np.int64))]
        spent, whole = 0, True
        for at in range(len(self._times)):
            limits = (at, most, work - spent, kept)
            more, all_kept, *arrays = self._extend(levels[-1], limits, windows[at + 1], relaxed)
            spent += more
            whole &= all_kept
            if not len(arrays[0]):
                return Found(spent, whole)
            levels.append(_Level(*arrays))
        return Found(spent, False, self._plan(levels))

    def _extend(self, level: _Level, limits: tuple[int, float, int, int], ends: Bools, relaxed: bool) -> Any:
        at, sets = limits[0], self._sets
        over = [self._links[a][at] for a in range(at + 1)]
        latency = np.array([link.latency_s if link else 0.0 for link in over])
        slowness = np.array([1 / link.bytes_per_second if link else 0.0 for link in over])
        return extend(
            limits,
            (sets.member, sets.steps.at, sets.steps.items, self._seconds[at]),
            (sets.pending.at, sets.pending.items, sets.readers.at, sets.readers.items, sets.sizes),
            (latency, slowness, _names(self._links, at, relaxed)),
            (level.sets, level.stages),
            ends,
        )

    def _windows(self, most: float) -> Bools:
        """[s, set]: whether s stages may hold the set and leave the others enough time, by sums alone."""
        count = len(self._times)
        found = np.ones((count + 1, self._seconds.shape[1]), bool)
        for mine in range(count):
            if (self._times[mine] == self._times[:mine]).all(axis=1).any():
                continue
            speed = speeds(self._times, mine)
            done, total = self._seconds[mine], self._seconds[mine, -1]
            for s in range(1, count):
                found[s] &= done <= most * speed[:s].sum() + 1e-9 * total
                found[s] &= total - done <= most * speed[s:].sum() + 1e-9 * total
        found[0], found[-1] = False, False
        found[0, 0] = found[-1, -1] = True
        return found

    def _plan(self, levels: Sequence[_Level]) -> list[int]:
        """The stage of every item on the way to the last level's only state."""
        member = self._sets.member
        stage = np.zeros(member.shape[1], np.int64)
        row = 0
        for at in range(len(levels) - 1, 0, -1):
            end, row = levels[at].sets[row], levels[at].back[row]
            stage[member[end] & ~member[levels[at - 1].sets[row]]] = at - 1
        found: list[int] = stage.tolist()
        return found


def speeds(times: Floats, mine: int) -> Floats:
    """How many seconds of work of device `mine` each device does in a second at the most."""
    some = times > 0
    ratio = np.divide(times[mine], times, out=np.where(times[mine] > 0, np.inf, 0.0) + 0 * times, where=some)
    found: Floats = ratio.max(axis=1)
    return found


def _names(links: Links, at: int, relaxed: bool) -> Shorts:
    """[stage, n]: what the n-th stage of those that swap with `stage` is called, when stage `at` is done."""
    rows = [tuple(links[a][at + 1 :]) for a in range(at + 1)]
    like = [[b for b, row in enumerate(rows) if row == mine] for mine in rows]
    return np.array(
        [[group[0 if relaxed else min(n, len(group) - 1)] for n in range(at + 1)] for group in like], np.int16
    )
