import dataclasses
import json

import pytest
from hypothesis import given, settings
from problems import chain, cluster, dags

from optc.models.errors import InputError
from optc.passes.partition.plan import make_plan
from optc.passes.partition.plan_json import plan_json, read_plan
from optc.passes.partition.problem import Problem
from optc.passes.partition.stages import stages


@settings(deadline=None)
@given(dags())
def test_reading_gives_back_what_was_written(problem: Problem) -> None:
    on = cluster(3, 0.5, 2.0)
    count = min(3, len(problem.items))
    plan = stages(problem, on, count)
    again, there, read = read_plan(json.loads(json.dumps(plan_json(problem, on, plan))))
    assert again == problem and read == plan
    assert there.devices == on.devices[:count]
    assert make_plan(again, there, read.stage, read.bound) == plan


def test_only_the_devices_of_the_plan_are_written() -> None:
    problem = dataclasses.replace(chain([1.0, 2.0], [3, 4]), times=((1.0, 2.0), (2.0, 4.0), (3.0, 6.0)))
    on = cluster(3)
    data = plan_json(problem, on, make_plan(problem, on, [0, 1], 0.5))
    assert data["times"] == [[1.0, 2.0], [2.0, 4.0]]
    assert [d["name"] for d in data["cluster"]["devices"]] == ["d0", "d1"]
    assert [link["between"] for link in data["cluster"]["links"]] == [["d0", "d1"]]
    assert data["sent"] == [{"from": 0, "to": 1, "bytes": 3}]


def test_a_damaged_plan_is_refused() -> None:
    problem, on = chain([1.0, 2.0], [3, 4]), cluster(2)
    data = plan_json(problem, on, stages(problem, on, 2))
    with pytest.raises(InputError, match="plan: 'memory' is missing"):
        read_plan({key: part for key, part in data.items() if key != "memory"})
    with pytest.raises(InputError, match="read before it is made"):
        read_plan({**data, "values": [{**data["values"][1], "readers": [0]}]})
    with pytest.raises(InputError, match="plan: "):
        read_plan({**data, "cluster": {**data["cluster"], "links": [{"between": ["d0"]}]}})
