"""One step of the search over chains of down-sets, compiled by numba. Indexing is plain, for its sake."""

from __future__ import annotations

from typing import Any

import numpy as np
from numba import njit
from numba.extending import register_jitable


def _extend(
    limits: Any, of_sets: Any, of_pending: Any, of_values: Any, of_links: Any, states: Any, ends: Any
) -> Any:
    """One stage more, from every state to each of the sets `ends`.

    limits: the stage, seconds it must take less than, work that may be done, states kept of a set.
    of_sets: words (set, word), seconds of the set on the stage's device. of_pending: `DownSets.pending`,
    `maker_of`, `makers`. of_values: `DownSets.readers`, `sizes`. of_links: latency and seconds a byte from
    each stage, and the names of stages that may be swapped. states: sets, slowest, stages; ascending by the
    sets' seconds. Returns the work, whether all states that matter were kept, and the new states: sets,
    slowest, stages, the states before.
    """
    at, most, work, kept = limits
    makers_at = of_pending[3]
    width = states[2].shape[1]
    found_sets, found_slowest = np.empty(1024, np.int64), np.empty(1024)
    found_stages, found_back = np.empty((1024, width), np.int16), np.empty(1024, np.int64)
    slowest, stages, back = np.empty(kept), np.zeros((kept, width), np.int16), np.empty(kept, np.int64)
    # need, origin and sums are for the helpers: a row for each maker or stage.
    rooms = (np.zeros(width), np.zeros(width, np.int64), np.zeros(at + 1), np.zeros((3, at + 1), np.int64))
    count, spent, whole = 0, 0, True
    begun = of_sets[1][states[0]]
    for end in ends:
        used = makers_at[end + 1] - makers_at[end]
        room = (slowest, stages[:, :used], back)
        arrived, more, all_kept = _arrive(
            limits, of_sets, of_pending, of_values, of_links, states, begun, end, room, rooms
        )
        spent += more + arrived * arrived // 8
        whole &= all_kept
        if spent > work:
            return spent, False, found_sets[:0], found_slowest[:0], found_stages[:0], found_back[:0]
        for mine in range(arrived):
            if not _beaten(room, arrived, mine, of_links[2], rooms[3][0]):
                if count == len(found_sets):
                    found_sets, found_slowest = _longer(found_sets), _longer(found_slowest)
                    found_stages, found_back = _longer(found_stages), _longer(found_back)
                found_sets[count], found_slowest[count], found_back[count] = end, slowest[mine], back[mine]
                found_stages[count, :used], found_stages[count, used:] = stages[mine, :used], 0
                count += 1
    return spent, whole, found_sets[:count], found_slowest[:count], found_stages[:count], found_back[:count]


def _arrive(
    limits: Any,
    of_sets: Any,
    of_pending: Any,
    of_values: Any,
    of_links: Any,
    states: Any,
    begun: Any,
    end: int,
    room: Any,
    rooms: Any,
) -> Any:
    """The states of the set `end`, put into `room`: how many, the work, whether all that came were kept."""
    at, most, work, kept = limits
    words, seconds = of_sets
    makers_at, makers = of_pending[3], of_pending[4]
    latency, slowness, names = of_links
    sets, slowest, stages = states
    need, origin, size_from, lists = rooms
    used = makers_at[end + 1] - makers_at[end]
    count, spent, whole = 0, 0, True
    row = np.searchsorted(begun, seconds[end] - most)
    while row < len(sets) and begun[row] <= seconds[end]:
        before, start = row, sets[row]
        while row < len(sets) and sets[row] == start:
            row += 1
        compute = seconds[end] - seconds[start]
        if start >= end or compute >= most or not _inside(words, start, end):
            continue
        read = makers_at[start + 1] - makers_at[start]
        spent += (row - before) * (1 + used // 8) + read // 4
        if spent > work:
            break
        _needs(words, start, end, of_pending, of_values, need)
        _origins(start, end, makers_at, makers, origin)
        for old in range(before, row):
            wait = _wait(need[:read], stages[old], latency, slowness, size_from)
            cost = max(slowest[old], compute + wait)
            if cost < most:
                _rename(origin[:used], stages[old], at, names, lists)
                spent += count // 8
                count, all_kept = _insert(room, count, cost, old, origin[:used], stages[old], at, lists[0])
                whole &= all_kept
    return count, spent, whole


def _insert(
    room: Any, count: int, cost: float, old: int, origin: Any, before: Any, at: int, renamed: Any
) -> Any:
    """The states in `room` with one more, unless it is there and as fast: how many, whether none was lost."""
    slowest, stages, back = room
    place = 0
    while place < count and not _same(stages[place], origin, before, at, renamed):
        place += 1
    lost = place == len(slowest)
    if lost:
        place = slowest.argmax()
    elif place == count:
        count += 1
        slowest[place] = np.inf
    if cost < slowest[place]:
        slowest[place], back[place] = cost, old
        for i in range(len(origin)):
            stages[place, i] = renamed[before[origin[i]] if origin[i] >= 0 else at]
    return count, not lost


def _same(mine: Any, origin: Any, before: Any, at: int, renamed: Any) -> bool:
    for i in range(len(origin)):  # noqa: SIM110
        if mine[i] != renamed[before[origin[i]] if origin[i] >= 0 else at]:
            return False
    return True


def _rename(origin: Any, before: Any, at: int, names: Any, lists: Any) -> None:
    """`lists[0]`: the first names of those that may be swapped, for the makers' stages in their order."""
    renamed, taken = lists[0], lists[1]
    renamed[:] = -1
    taken[:] = 0
    for i in range(len(origin)):
        stage = before[origin[i]] if origin[i] >= 0 else at
        if renamed[stage] < 0:
            group = names[stage, 0]
            renamed[stage] = names[stage, taken[group]]
            taken[group] += 1


def _beaten(room: Any, count: int, mine: int, names: Any, joined: Any) -> bool:
    """Whether another state of the set is as good: no slower, and its messages are as few."""
    slowest, stages = room[0], room[1]
    for other in range(count):  # noqa: SIM110
        if (
            other != mine
            and slowest[other] <= slowest[mine]
            and _joins(stages[other], stages[mine], names, joined)
        ):
            return True
    return False


def _joins(a: Any, b: Any, names: Any, joined: Any) -> bool:
    """Whether makers that share a stage in `b` share one in `a`, over links that are as good."""
    joined[:] = -1
    for i in range(len(a)):
        if joined[b[i]] < 0:
            joined[b[i]] = a[i]
        if names[a[i], 0] != names[b[i], 0] or joined[b[i]] != a[i]:
            return False
    return True


def _inside(words: Any, start: int, end: int) -> bool:
    for w in range(words.shape[1]):  # noqa: SIM110
        if words[start, w] & ~words[end, w]:
            return False
    return True


def _needs(words: Any, start: int, end: int, of_pending: Any, of_values: Any, need: Any) -> None:
    """Bytes by maker that the items of `end` without `start` read."""
    pending_at, pending, maker_of, makers_at, _ = of_pending
    readers_at, readers, sizes = of_values
    need[: makers_at[start + 1] - makers_at[start]] = 0
    for entry in range(pending_at[start], pending_at[start + 1]):
        value = pending[entry]
        for r in range(readers_at[value], readers_at[value + 1]):
            word, bit = readers[r] >> 6, np.uint64(readers[r] & 63)
            if (words[end, word] & ~words[start, word]) >> bit & np.uint64(1):
                need[maker_of[entry]] += sizes[value]
                break


def _origins(start: int, end: int, makers_at: Any, makers: Any, origin: Any) -> None:
    """Of each maker of `end` its place among those of `start`, or -1."""
    j = makers_at[start]
    for i in range(makers_at[end], makers_at[end + 1]):
        while j < makers_at[start + 1] and makers[j] < makers[i]:
            j += 1
        found = j < makers_at[start + 1] and makers[j] == makers[i]
        origin[i - makers_at[end]] = j - makers_at[start] if found else -1


def _wait(need: Any, stages: Any, latency: Any, slowness: Any, size_from: Any) -> float:
    """Seconds of a message from each stage with something needed."""
    for i in range(len(need)):
        size_from[stages[i]] += need[i]
    wait = 0.0
    for i in range(len(need)):
        source = stages[i]
        if size_from[source]:
            wait += latency[source] + size_from[source] * slowness[source]
            size_from[source] = 0
    return wait


def _longer(array: Any) -> Any:
    """The array with as much room again."""
    return np.concatenate((array, np.empty_like(array)))


for _helper in (
    _arrive,
    _insert,
    _same,
    _rename,
    _beaten,
    _joins,
    _inside,
    _needs,
    _origins,
    _wait,
    _longer,
):
    register_jitable(_helper)

extend = njit(_extend, cache=True)
