import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st
from problems import dags, every

from optc.passes.partition.memory import StageMemory
from optc.passes.partition.problem import Problem


def largest(problem: Problem, stage: tuple[int, ...], at: int) -> tuple[int, int]:
    """Weights and live bytes, one moment after the other."""
    weights = sum(w.bytes for w in problem.weights if at in {stage[r] for r in w.readers})
    most = 0
    for now in range(len(stage)):
        alive = 0
        for value in problem.values:
            uses = [p for p in (value.producer, *value.readers) if p >= 0 and stage[p] == at]
            made = value.producer >= 0 and stage[value.producer] == at
            stays = made and (value.kept or any(stage[r] != at for r in value.readers))
            if uses and uses[0] <= now and (stays or now <= uses[-1]):
                alive += value.bytes
        most = max(most, alive)
    return weights, most


@settings(deadline=None)
@given(dags(), st.data())
def test_memory_is_what_lives_at_one_moment(problem: Problem, data: st.DataObject) -> None:
    count = data.draw(st.integers(1, min(3, len(problem.items))))
    for stage in every(problem, count):
        for at in range(count):
            assert StageMemory(problem).of(np.array(stage), at) == largest(problem, stage, at)
