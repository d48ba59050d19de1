"""The best chain of down-sets: dynamic programming over stages of any convex shape, messages included.

A state is what matters for the stages to come: the down-set that the stages so far hold, and which of the
items that others still read lie together in a stage, as they send one message. Stages whose links to all
later stages are equal may be swapped, and states that differ only in this are one.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numba import njit
from numpy.typing import NDArray

from optc.passes.partition.downsets import DownSets
from optc.passes.partition.moves import Links

WORK = 40_000_000
"""States that one search looks onward from, each once for every down-set it leads to; then it gives up."""

STATES = 200_000
"""States of one stage that a search keeps; with more it gives up."""

Floats = NDArray[np.float64]
Ints = NDArray[np.int64]
Shorts = NDArray[np.int16]


@dataclass(frozen=True)
class Found:
    """What a search came to: whether it was `done`, and the best plan, if there is one below its limit."""

    done: bool
    seconds: float = np.inf
    stage: list[int] | None = None


@dataclass(frozen=True)
class _Level:
    """States, ascending by set: the seconds of the slowest stage so far, of each maker its stage (or one that
    may be swapped with it), and the state before.
    """

    sets: Ints
    slowest: Floats
    stages: Shorts
    back: Ints


def search(
    sets: DownSets, times: Floats, links: Links, most: float, work: int = WORK, relaxed: bool = False
) -> Found:
    """The best plan along `sets` whose stages all take less than `most` seconds; `times[stage, item]`.

    Memory does not count. `relaxed`: messages of stages that may be swapped count as one, and the result is
    a bound, where `sets` are whole; its plan is one to try.
    """
    count = len(times)
    seconds: Floats = sets.member @ times.T
    windows = _windows(seconds, times, most)
    width = max(int(np.diff(sets.makers.at).max()), 1)
    level = _Level(np.zeros(1, np.int64), np.zeros(1), np.zeros((1, width), np.int16), np.zeros(1, np.int64))
    levels = [level]
    for at in range(count):
        over = [links[a][at] for a in range(at)]
        latency = np.array([link.latency_s if link else 0.0 for link in over])
        slowness = np.array([1 / link.bytes_per_second if link else 0.0 for link in over])
        ends = np.flatnonzero(windows[at + 1])
        result = _extend(
            (at, most, work, STATES),
            (sets.words, np.ascontiguousarray(seconds[:, at])),
            (sets.pending.at, sets.pending.items, sets.maker_of, sets.makers.at, sets.makers.items),
            (sets.readers.at, sets.readers.items, sets.sizes),
            (latency, slowness, _names(links, at, relaxed)),
            (level.sets, level.slowest, level.stages),
            ends,
        )
        left, *arrays = result
        work -= left
        if work < 0:
            return Found(False)
        level = _Level(*arrays)
        levels.append(level)
        if not len(level.sets):
            return Found(True)
    return Found(True, float(level.slowest[0]), _plan(sets, levels))


def _plan(sets: DownSets, levels: Sequence[_Level]) -> list[int]:
    """The stage of every item on the way to the last level's only state."""
    stage = np.zeros(sets.member.shape[1], np.int64)
    row = 0
    for at in range(len(levels) - 1, 0, -1):
        end, row = levels[at].sets[row], levels[at].back[row]
        stage[sets.member[end] & ~sets.member[levels[at - 1].sets[row]]] = at - 1
    found: list[int] = stage.tolist()
    return found


def _windows(seconds: Floats, times: Floats, most: float) -> NDArray[np.bool_]:
    """[s, set]: whether s stages may hold the set and leave the others enough time, as far as sums tell.

    In `most` seconds a device does as much of the work that another one does in r × `most` as r says, which
    is the largest over the items.
    """
    count = len(times)
    found = np.ones((count + 1, len(seconds)), bool)
    for mine in range(count):
        if (times[mine] == times[:mine]).all(axis=1).any():
            continue
        speed = speeds(times, mine)
        done, total = seconds[:, mine], seconds[-1, mine]
        for s in range(1, count):
            found[s] &= done <= most * speed[:s].sum() + 1e-9 * total
            found[s] &= total - done <= most * speed[s:].sum() + 1e-9 * total
    found[0], found[-1] = False, False
    found[0, 0] = found[-1, -1] = True
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
    return np.array([[group[0 if relaxed else min(n, len(group) - 1)] for n in range(at + 1)] for group in like], np.int16)


@njit(cache=True)
def _extend(limits: Any, of_sets: Any, of_pending: Any, of_values: Any, of_links: Any, states: Any, ends: Any) -> Any:
    """One stage more: from every state to each of the sets `ends`. Returns the work, then the new states."""
    at, most, work, most_states = limits
    words, seconds = of_sets
    pending_at, pending, maker_of, makers_at, makers = of_pending
    readers_at, readers, sizes = of_values
    latency, slowness, names = of_links
    sets, slowest, stages = states
    width = stages.shape[1]
    room = 1024
    new_sets, new_back = np.empty(room, np.int64), np.empty(room, np.int64)
    new_slowest, new_stages = np.empty(room), np.empty((room, width), np.int16)
    count = 0
    spent = 0
    need = np.zeros(width)
    origin = np.empty(width, np.int64)
    mine = np.empty(width, np.int16)
    size_from = np.zeros(at + 1)
    renamed = np.empty(at + 1, np.int16)
    taken = np.zeros(at + 1, np.int64)
    for end in ends:
        first = count
        row = 0
        while row < len(sets):
            before, start = row, sets[row]
            while row < len(sets) and sets[row] == start:
                row += 1
            compute = seconds[end] - seconds[start]
            if start >= end or compute >= most or not _inside(words, start, end):
                continue
            spent += row - before
            if spent > work:
                break
            _needs(words, start, end, of_pending, of_values, need)
            _origins(start, end, makers_at, makers, origin)
            for old in range(before, row):
                cost = max(slowest[old], compute + _wait(need, makers_at[start + 1] - makers_at[start], stages[old], latency, slowness, size_from))
                if cost >= most:
                    continue
                _rename(origin, makers_at[end + 1] - makers_at[end], stages[old], at, names, renamed, taken, mine)
                same = first
                while same < count and not _equal(new_stages[same], mine):
                    same += 1
                if same == count:
                    if count == room:
                        room *= 2
                        new_sets, new_back = _longer(new_sets), _longer(new_back)
                        new_slowest, new_stages = _longer(new_slowest), _longer(new_stages)
                    count += 1
                    new_slowest[same] = np.inf
                if cost < new_slowest[same]:
                    new_sets[same], new_slowest[same], new_back[same] = end, cost, old
                    new_stages[same] = mine
        if spent > work or count > most_states:
            return work + 1, new_sets[:0], new_slowest[:0], new_stages[:0], new_back[:0]
    return spent, new_sets[:count], new_slowest[:count], new_stages[:count], new_back[:count]


@njit(cache=True)
def _longer(array: Any) -> Any:
    return np.concatenate((array, array))


@njit(cache=True)
def _equal(a: Any, b: Any) -> bool:
    for i in range(len(a)):
        if a[i] != b[i]:
            return False
    return True


@njit(cache=True)
def _inside(words: Any, start: int, end: int) -> bool:
    for w in range(words.shape[1]):
        if words[start, w] & ~words[end, w]:
            return False
    return True


@njit(cache=True)
def _needs(words: Any, start: int, end: int, of_pending: Any, of_values: Any, need: Any) -> None:
    """Bytes by maker that the items of `end` without `start` read."""
    pending_at, pending, maker_of, makers_at, makers = of_pending
    readers_at, readers, sizes = of_values
    need[: makers_at[start + 1] - makers_at[start]] = 0
    for entry in range(pending_at[start], pending_at[start + 1]):
        value = pending[entry]
        for r in range(readers_at[value], readers_at[value + 1]):
            word, bit = readers[r] >> 6, np.uint64(readers[r] & 63)
            if (words[end, word] & ~words[start, word]) >> bit & np.uint64(1):
                need[maker_of[entry]] += sizes[value]
                break


@njit(cache=True)
def _origins(start: int, end: int, makers_at: Any, makers: Any, origin: Any) -> None:
    """Of each maker of `end` its place among those of `start`, or -1."""
    j = makers_at[start]
    for i in range(makers_at[end], makers_at[end + 1]):
        while j < makers_at[start + 1] and makers[j] < makers[i]:
            j += 1
        found = j < makers_at[start + 1] and makers[j] == makers[i]
        origin[i - makers_at[end]] = j - makers_at[start] if found else -1


@njit(cache=True)
def _wait(need: Any, count: int, stages: Any, latency: Any, slowness: Any, size_from: Any) -> float:
    """Seconds of a message from each stage with something needed."""
    for i in range(count):
        if need[i]:
            size_from[stages[i]] += need[i]
    wait = 0.0
    for i in range(count):
        source = stages[i]
        if need[i] and size_from[source]:
            wait += latency[source] + size_from[source] * slowness[source]
            size_from[source] = 0
    return wait


@njit(cache=True)
def _rename(origin: Any, count: int, stages: Any, at: int, names: Any, renamed: Any, taken: Any, mine: Any) -> None:
    """Of each maker its stage, by the first names of those that may be swapped, in the makers' order."""
    mine[:] = 0
    renamed[:] = -1
    taken[:] = 0
    for i in range(count):
        stage = stages[origin[i]] if origin[i] >= 0 else at
        if renamed[stage] < 0:
            group = names[stage, 0]
            renamed[stage] = names[stage, taken[group]]
            taken[group] += 1
        mine[i] = renamed[stage]
