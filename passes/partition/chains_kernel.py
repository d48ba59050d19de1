"""One stage of the search over chains of down-sets, compiled by numba. Indexing is plain, for its sake.

A stage takes its items step by step, from a down-set to a larger one. A state within the stage has a code
for each value that is still read: the stage that made it, `NAMED` bits up, and what the stage has paid for:
`RECEIVED`, the value, `SEEN`, a message from there; both for what the stage itself made. Its `offset`, added
to the seconds of a set's items, is what the stage takes up to there: messages, less the items before it.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numba.extending import register_jitable

from optc.passes.compiled import compiled

RECEIVED, SEEN, NAMED = 1, 2, 2

_SIZE, _FREE, _WORK, _LOST, _FOUND = 0, 1, 2, 3, 4
"""What a tally has: the places for states within the stage that were used so far, one of those that are free
again (-1: none), the work, the states that were not kept, and the new ones."""


def _extend(limits: Any, of_sets: Any, of_values: Any, of_links: Any, states: Any, ends: Any) -> Any:
    """One stage more, from every state to the sets that `ends` says.

    limits: the stage, seconds it must take less than, work that may be done, states kept of a set. of_sets:
    `DownSets.member`, `steps`, and the sets' seconds on the stage's device. of_values: `DownSets.pending`,
    `readers`, `sizes`. of_links: latency and seconds a byte from each stage, and the names of stages that may
    be swapped. states: sets, ascending, and the stage of each pending value. Returns the work, whether all
    states that matter were kept, and the new states: sets, stages, the states before.
    """
    at, _, work, _ = limits
    seconds, names = of_sets[3], of_links[2]
    width = states[1].shape[1]
    # Of each set the states within the stage: the last one's number, and how many there are.
    held = np.full(len(seconds), -1, np.int64), np.zeros(len(seconds), np.int64)
    # Of each state within the stage: offset, the state before the stage, the set's other states, codes.
    pool = (
        np.empty(1024),
        np.empty(1024, np.int64),
        np.empty(1024, np.int64),
        np.empty((1024, width), np.int16),
    )
    found = np.empty(1024, np.int64), np.empty((1024, width), np.int16), np.empty(1024, np.int64)
    lists = np.empty((2, at + 1), np.int64)
    tally = np.array([0, -1, 0, 0, 0])
    row = 0
    for now in range(len(seconds)):
        if ends[now]:
            while tally[_FOUND] + held[1][now] > len(found[0]):
                found = _longer(found[0]), _longer(found[1]), _longer(found[2])
            _leave(now, of_values[0], names, held, pool, found, lists, tally)
        begun = row
        while row < len(states[0]) and states[0][row] == now:
            row += 1
        most = (row - begun + held[1][now]) * (1 + of_sets[1][now + 1] - of_sets[1][now])
        while tally[_SIZE] + most > len(pool[0]):
            pool = _longer(pool[0]), _longer(pool[1]), _longer(pool[2]), _longer(pool[3])
        for start in range(begun, row):
            codes = states[1][start : start + 1]
            fresh = now, -seconds[now], start
            _insert(fresh, codes, limits, seconds, of_values, of_links, held, pool, lists[0], tally)
        _go_on(now, limits, of_sets, of_values, of_links, held, pool, lists[0], tally)
        if tally[_WORK] > work:
            return tally[_WORK], False, found[0][:0], found[1][:0], found[2][:0]
    count = tally[_FOUND]
    return tally[_WORK], not tally[_LOST], found[0][:count], found[1][:count], found[2][:count]


def _leave(
    now: int, pending_at: Any, names: Any, held: Any, pool: Any, found: Any, lists: Any, tally: Any
) -> None:
    """New states in `found` of those that may end the stage at the set `now`: those that no other beats."""
    sets, stages, back = found
    begun, used = tally[_FOUND], pending_at[now + 1] - pending_at[now]
    count = begun
    state = held[0][now]
    while state >= 0:
        _rename(pool[3], state, used, names, lists, stages, count)
        beaten, kept = False, begun
        for other in range(begun, count):
            beaten = beaten or _joins(stages, other, stages, count, used, names, lists[0])
        tally[_WORK] += 1 + count - begun
        if not beaten:
            for other in range(begun, count):
                if not _joins(stages, count, stages, other, used, names, lists[0]):
                    stages[kept], back[kept] = stages[other], back[other]
                    kept += 1
            stages[kept] = stages[count]
            sets[kept], back[kept] = now, pool[1][state]
            count = kept + 1
        state = pool[2][state]
    tally[_FOUND] = count


def _rename(codes: Any, state: int, used: int, names: Any, lists: Any, renamed: Any, new: int) -> None:
    """Into renamed[new] the codes for the next stage; of stages that may be swapped the first names first."""
    called, taken = lists
    called[:] = -1
    taken[:] = 0
    for i in range(used):
        stage = codes[state, i] >> NAMED
        if called[stage] < 0:
            group = names[stage, 0]
            called[stage] = names[stage, taken[group]]
            taken[group] += 1
        renamed[new, i] = called[stage] << NAMED
    renamed[new, used:] = 0


def _go_on(
    now: int,
    limits: Any,
    of_sets: Any,
    of_values: Any,
    of_links: Any,
    held: Any,
    pool: Any,
    joined: Any,
    tally: Any,
) -> None:
    """Every step from every state of the set `now`, whose places are free then."""
    member, steps_at, steps, seconds = of_sets
    pending_at = of_values[0]
    width = pool[3].shape[1]
    reads, origin, codes = (
        np.empty(width, np.int64),
        np.empty(width, np.int64),
        np.zeros((1, width), np.int16),
    )
    if held[0][now] < 0:
        return
    for step in range(steps_at[now], steps_at[now + 1]):
        then = steps[step]
        used = pending_at[then + 1] - pending_at[then]
        count = _reads(now, then, member, of_values, reads)
        _origins(now, then, of_values, origin)
        state = held[0][now]
        while state >= 0:
            moves = reads[:count], origin[:used]
            offset = pool[0][state] + _pay(now, pool[3], state, moves, limits[0], of_values, of_links, codes)
            new = then, offset, pool[1][state]
            _insert(new, codes, limits, seconds, of_values, of_links, held, pool, joined, tally)
            state = pool[2][state]
    last = held[0][now]
    while pool[2][last] >= 0:
        last = pool[2][last]
    pool[2][last], tally[_FREE] = tally[_FREE], held[0][now]


def _reads(now: int, then: int, member: Any, of_values: Any, reads: Any) -> int:
    """The places among `now`'s pending values of those that the step's items read; how many they are."""
    pending_at, pending, readers_at, readers, _ = of_values
    count = 0
    for entry in range(pending_at[now], pending_at[now + 1]):
        value = pending[entry]
        for r in range(readers_at[value], readers_at[value + 1]):
            if member[then, readers[r]] and not member[now, readers[r]]:
                reads[count] = entry - pending_at[now]
                count += 1
                break
    return count


def _origins(now: int, then: int, of_values: Any, origin: Any) -> None:
    """Of each pending value of `then` its place among those of `now`, or -1."""
    pending_at, pending = of_values[0], of_values[1]
    j = pending_at[now]
    for i in range(pending_at[then], pending_at[then + 1]):
        while j < pending_at[now + 1] and pending[j] < pending[i]:
            j += 1
        found = j < pending_at[now + 1] and pending[j] == pending[i]
        origin[i - pending_at[then]] = j - pending_at[now] if found else -1


def _pay(
    now: int, codes: Any, state: int, moves: Any, at: int, of_values: Any, of_links: Any, into: Any
) -> float:
    """Seconds of what a step from the set `now` receives; puts the next codes into into[0].

    moves: the values that the step reads, and where the next codes come from, as places in codes[state].
    """
    reads, origin = moves
    latency, slowness, _ = of_links
    pending_at, pending, _, _, sizes = of_values
    for i in range(len(origin)):
        into[0, i] = codes[state, origin[i]] if origin[i] >= 0 else (at << NAMED) + SEEN + RECEIVED
    paid = 0.0
    for k in range(len(reads)):
        place = reads[k]
        if codes[state, place] & RECEIVED:
            continue
        stage = codes[state, place] >> NAMED
        seen = codes[state, place] & SEEN > 0
        for other in range(k):
            seen = seen or codes[state, reads[other]] >> NAMED == stage
        paid += sizes[pending[pending_at[now] + place]] * slowness[stage] + (0.0 if seen else latency[stage])
        for i in range(len(origin)):
            if origin[i] == place:
                into[0, i] |= RECEIVED
            if into[0, i] >> NAMED == stage:
                into[0, i] |= SEEN
    return paid


def _insert(
    new: Any,
    codes: Any,
    limits: Any,
    seconds: Any,
    of_values: Any,
    of_links: Any,
    held: Any,
    pool: Any,
    joined: Any,
    tally: Any,
) -> None:
    """One state more, unless it takes too long or one of its set is as good.

    new: the set, the offset, and the state before the stage; its codes are codes[0].
    """
    then, offset, start = new
    _, most, _, kept = limits
    offsets, starts, before, rows = pool
    slowest, effort = -1, 1 + (of_values[0][then + 1] - of_values[0][then]) // 8
    tally[_WORK] += 4 * effort
    if not seconds[then] + offset < most:
        return
    place = held[0][then]
    while place >= 0:
        tally[_WORK] += effort
        lead = offset - offsets[place]
        if lead >= 0 and _as_good(then, rows, place, codes, 0, lead, of_values, of_links, joined):
            return
        if lead <= 0 and _as_good(then, codes, 0, rows, place, -lead, of_values, of_links, joined):
            break
        if slowest < 0 or offsets[place] > offsets[slowest]:
            slowest = place
        place = before[place]
    if place < 0 and held[1][then] == kept:
        tally[_LOST] += 1
        place = slowest
        if offsets[place] <= offset:
            return
    elif place < 0:
        place = _place(then, held, before, tally)
    offsets[place], starts[place] = offset, start
    for i in range(codes.shape[1]):
        rows[place, i] = codes[0, i]


def _place(then: int, held: Any, before: Any, tally: Any) -> int:
    """A place for one state more of the set `then`."""
    place: int = tally[_FREE]
    if place >= 0:
        tally[_FREE] = before[place]
    else:
        place = tally[_SIZE]
        tally[_SIZE] += 1
    before[place] = held[0][then]
    held[0][then] = place
    held[1][then] += 1
    return place


def _as_good(
    now: int, a: Any, i: int, b: Any, j: int, lead: float, of_values: Any, of_links: Any, joined: Any
) -> bool:
    """Whether codes a[i] of the set `now`, `lead` seconds ahead, are as good as b[j] whatever is read.

    What shares a stage in b[j] shares one in a[i], over links as good, and the lead pays for what only b[j]
    has paid for.
    """
    latency, slowness, names = of_links
    pending_at, pending, _, _, sizes = of_values
    used = pending_at[now + 1] - pending_at[now]
    for k in range(used):
        joined[b[j, k] >> NAMED] = -1
    for k in range(used):
        mine, other, lacks = a[i, k] >> NAMED, b[j, k] >> NAMED, b[j, k] & ~a[i, k]
        if joined[other] < 0:
            joined[other] = mine
        if joined[other] != mine or names[mine, 0] != names[other, 0]:
            return False
        if latency[mine] > latency[other] or slowness[mine] > slowness[other]:
            return False
        if lacks & RECEIVED:
            lead -= sizes[pending[pending_at[now] + k]] * slowness[mine]
        if lacks & SEEN and not _counted(a, i, b, j, k):
            lead -= latency[mine]
        if lead < 0:
            return False
    return True


def _counted(a: Any, i: int, b: Any, j: int, k: int) -> bool:
    """Whether a place before k has the same stage in a[i] and a message in b[j]."""
    for m in range(k):  # noqa: SIM110
        if a[i, m] >> NAMED == a[i, k] >> NAMED and b[j, m] & SEEN:
            return True
    return False


def _joins(a: Any, i: int, b: Any, j: int, used: int, names: Any, joined: Any) -> bool:
    """Whether what shares a stage in the codes b[j] shares one in a[i], over links as good later on."""
    for k in range(used):
        joined[b[j, k] >> NAMED] = -1
    for k in range(used):
        mine, other = a[i, k] >> NAMED, b[j, k] >> NAMED
        if joined[other] < 0:
            joined[other] = mine
        if names[mine, 0] != names[other, 0] or joined[other] != mine:
            return False
    return True


def _longer(array: Any) -> Any:
    """The array with as much room again."""
    return np.concatenate((array, np.empty_like(array)))


for _helper in (
    _leave,
    _rename,
    _go_on,
    _reads,
    _origins,
    _pay,
    _insert,
    _place,
    _as_good,
    _counted,
    _joins,
    _longer,
):
    register_jitable(forceinline=True)(_helper)

extend = compiled(_extend)
