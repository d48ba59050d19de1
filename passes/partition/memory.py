"""The bytes that stages need, from arrays that are made once a problem: a search asks thousands of times."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from optc.passes.partition.problem import INPUT, Problem, Value, Weight

Ints = NDArray[np.int64]


class StageMemory:
    """What stages of a problem hold, as `plan.stage_memory` says."""

    def __init__(self, problem: Problem) -> None:
        self._value, self._reader = _uses(problem.values)
        self._weight, self._weight_reader = _uses(problem.weights)
        self._sizes = np.array([v.bytes for v in problem.values], np.int64)
        self._weight_sizes = np.array([w.bytes for w in problem.weights], np.int64)
        self._producer = np.array([v.producer for v in problem.values], np.int64)
        self._readers = np.array([len(v.readers) for v in problem.values], np.int64)
        self._kept = np.array([v.kept for v in problem.values], bool)

    def of(self, stage: Ints, at: int) -> tuple[int, int]:
        """Bytes of stage `at`'s weights, and of its largest live values; `stage` of each item."""
        mine = stage == at
        held = np.zeros(len(self._weight_sizes), bool)
        held[self._weight[mine[self._weight_reader]]] = True
        return int(self._weight_sizes[held].sum()), self._live(mine)

    def _live(self, mine: NDArray[np.bool_]) -> int:
        uses = np.flatnonzero(mine[self._reader])
        value, reader = self._value[uses], self._reader[uses]
        made = (self._producer != INPUT) & mine[self._producer]
        here = np.bincount(value, minlength=len(made))
        first, last = self._producer.copy(), self._producer.copy()
        # Readers ascend: of those written to one place the last one stays.
        first[value[::-1]] = reader[::-1]
        first[made] = self._producer[made]
        last[value] = reader
        last[made & (self._kept | (here < self._readers))] = len(mine)
        touched = made | (here > 0)
        change = np.zeros(len(mine) + 2, np.int64)
        np.add.at(change, first[touched], self._sizes[touched])
        np.subtract.at(change, last[touched] + 1, self._sizes[touched])
        return int(change.cumsum().max())


def _uses(used: Sequence[Value | Weight]) -> tuple[Ints, Ints]:
    """The number of each value or weight, once for each of its readers, and the readers."""
    numbers = np.repeat(np.arange(len(used)), [len(u.readers) for u in used])
    return numbers, np.array([r for u in used for r in u.readers], np.int64)
