import ast
import copy
import json
from collections.abc import Callable
from importlib.util import module_from_spec, spec_from_file_location
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from problems import chain, cluster, clusters, dags, unequal

from optc.passes.partition.plan_json import plan_json
from optc.passes.partition.problem import Problem
from optc.passes.partition.stages import stages

PATH = Path(__file__).parents[3] / "benchmarks" / "partition_check.py"


def load() -> ModuleType:
    spec = spec_from_file_location("partition_check", PATH)
    assert spec is not None and spec.loader is not None
    module = module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


CHECK = load()


def plan() -> dict[str, Any]:
    problem, on = chain([3.0, 1.0, 2.0, 2.0], [4, 5, 6, 7], [8, 9, 10, 11]), cluster(2, 0.5, 100.0)
    return plan_json(problem, on, stages(problem, on, 2))


@settings(deadline=None, max_examples=100)
@given(dags() | unequal(), st.integers(1, 4), st.data())
def test_plans_of_the_solver_are_right(problem: Problem, count: int, data: st.DataObject) -> None:
    count = min(count, len(problem.items))
    on = data.draw(clusters(count))
    assert CHECK.faults(json.loads(json.dumps(plan_json(problem, on, stages(problem, on, count))))) == []


def _set(*path: Any) -> Callable[[dict[str, Any]], None]:
    def change(data: Any) -> None:
        for key in path[:-2]:
            data = data[key]
        data[path[-2]] = path[-1]

    return change


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (_set("stage", [0, 1, 0, 1]), "goes back from stage 1 to 0"),
        (_set("stage", [0, 0, 0, 0]), "not spread over stages 0 to 1"),
        (_set("stage", [0, 0, 1]), "4 items, but stages of 3"),
        (_set("compute", 1, 3.0), "stage 1: compute is 4.0, not 3.0"),
        (_set("items", 3, "seconds", 9.0), "stage 1: compute is 11.0"),
        (_set("receive", 1, 0.0), "stage 1: receive is 0.55, not 0.0"),
        (_set("sent", 0, "bytes", 1), "stage 0 sends 5 bytes to stage 1, not 1"),
        (_set("sent", []), "stage 0 sends 5 bytes to stage 1, not 0"),
        (_set("memory", 0, 1), "stage 0: memory is"),
        (_set("cluster", "devices", 0, "memory_bytes", 3), "stage 0 needs"),
        (_set("cluster", "links", 0, "latency_s", 9.0), "stage 1: receive is 9.05"),
        (_set("bottleneck", 1.0), "the bottleneck is 4.55, not 1.0"),
        (_set("bound", 9.0), "the bound 9.0 is above the bottleneck"),
        (_set("bound", 1.0), "the bound 1.0 is below the mean of all stages, 4.0"),
        (_set("gap", 0.5), "the gap is"),
        (_set("values", 1, "readers", [0]), "is read before it is made"),
    ],
)
def test_a_changed_plan_is_told(change: Callable[[dict[str, Any]], None], message: str) -> None:
    data = copy.deepcopy(plan())
    assert CHECK.faults(data) == []
    change(data)
    assert any(message in fault for fault in CHECK.faults(data)), CHECK.faults(data)


def test_the_command_says_which_file_is_wrong(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    good, bad = tmp_path / "good.json", tmp_path / "bad.json"
    good.write_text(json.dumps({"plan": plan()}))
    bad.write_text(json.dumps(plan() | {"bottleneck": 1.0}))
    assert CHECK.main([str(good)]) == 0 and capsys.readouterr().out == ""
    assert CHECK.main([str(good), str(bad)]) == 1
    assert f"{bad}: the bottleneck is" in capsys.readouterr().out


def test_it_imports_nothing_of_ours() -> None:
    imported = {
        name
        for path in (PATH, PATH.with_name("partition_check_program.py"))
        for node in ast.walk(ast.parse(path.read_text()))
        if isinstance(node, ast.Import | ast.ImportFrom)
        for name in (
            [node.module or ""] if isinstance(node, ast.ImportFrom) else [a.name for a in node.names]
        )
    }
    assert not any(name.split(".")[0] in ("optc", "common", "numpy", "onnx") for name in imported)
