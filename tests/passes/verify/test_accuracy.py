"""Accuracy along a pipeline: which models are scored, how often, and what is said of the changes."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar

import numpy as np
import onnx
import pytest

from optc.models.data import Samples
from optc.models.model import Model
from optc.passes.base import Context, Contract, Exact, Lossy, Pass
from optc.passes.cost import Cost
from optc.passes.verify.checked import Checks, Outcome, run_checked
from optc.passes.verify.evaluate import Evaluator

TEXT = """<ir_version: 8, opset_import: ["": 17]> g (float[N,4] x) => (float[N,4] y)
<float[4] w = {1, 1, 1, 1}> { y = Mul(x, w) }"""
DATA = np.random.default_rng(0).standard_normal((100, 4)).astype(np.float32)


@dataclass(frozen=True)
class Weigh:
    """Sets the weights, or says that there is nothing to do."""

    name: ClassVar[str] = "weigh"
    first: float = 1.0
    does: bool = True
    contract: Contract = Lossy("weights")

    def run(self, model: Model, context: Context) -> bool:
        if self.does:
            model.graph.nodes[0].inputs[1].values = np.array([self.first, 1, 1, 1], np.float32)
        return self.does


@pytest.fixture
def run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[..., Outcome]:
    """Runs passes on the model with labels that it has all right; notes what is scored."""
    np.savez(tmp_path / "e.npz", x=DATA, label=DATA.argmax(axis=1))
    score, seen = Evaluator.score, []

    def noted(self: Evaluator, model: Model, of: object) -> object:
        seen.append(float(model.view.nodes[0].inputs[1].values[0]))
        return score(self, model, of)  # type: ignore[arg-type]

    monkeypatch.setattr(Evaluator, "score", noted)

    def go(*passes: Pass, **options: object) -> Outcome:
        seen.clear()
        checks = Checks(evaluation=Samples(tmp_path / "e.npz"), **options)  # type: ignore[arg-type]
        return run_checked(passes, Model(onnx.parser.parse_model(TEXT)), checks)

    go.seen = seen  # type: ignore[attr-defined]
    return go


def names(outcome: Outcome) -> list[str]:
    return [s.name for s in outcome.scores]


def test_each_lossy_pass_that_changes_something_has_a_line(run: Callable[..., Outcome]) -> None:
    exact = Weigh(1 + 1e-6, contract=Exact())
    outcome = run(exact, Weigh(-1), Weigh(does=False), Weigh(0.5), metric="top1")
    start, first, second = outcome.scores
    assert [start.name, first.name.partition("{")[0], "0.5" in second.name] == ["(input)", "weigh", True]
    assert start.since_last is None and start.score.value == 1
    assert second.since_last and second.since_last.mean == pytest.approx(
        second.score.value - first.score.value
    )
    assert second.since_input and second.since_input.mean == pytest.approx(second.score.value - 1)
    assert outcome.score_before is start.score and outcome.score_after is second.score


def test_what_follows_the_last_lossy_pass_counts(run: Callable[..., Outcome]) -> None:
    assert names(run(Weigh(-1), Weigh(2, contract=Exact())))[-1] == "(output)"
    assert names(run(Weigh(2, contract=Exact()))) == ["(input)", "(output)"]
    assert names(run(Weigh(does=False))) == ["(input)"]


@pytest.mark.parametrize("verify", [False, True])
def test_no_model_is_scored_twice(run: Callable[..., Outcome], verify: bool) -> None:
    outcome = run(Weigh(-1), Weigh(0.5), Weigh(-1), verify=verify)
    assert len(outcome.scores) == 4
    assert run.seen == [1, -1, 0.5]  # type: ignore[attr-defined]
    assert [r.score for r in outcome.rows] == ([s.score for s in outcome.scores] if verify else [])


def test_what_the_guard_takes_back_is_not_scored(run: Callable[..., Outcome]) -> None:
    outcome = run(Weigh(-1), guard=True, cost=lambda model: Cost("estimated", cycles=1))
    assert outcome.steps[0].rolled_back and names(outcome) == ["(input)"]
    assert run.seen == [1]  # type: ignore[attr-defined]


def test_f1_is_compared_on_the_same_draws(run: Callable[..., Outcome]) -> None:
    found = run(Weigh(-1), metric="f1").scores[1].since_input
    assert found and found.low < found.mean < found.high < 0 and found.p < 0.05
    first, second = run(Weigh(-1), Weigh(-1 - 1e-6), metric="f1").scores[1:]
    assert first.score.low < first.score.high  # draws differ, but the two models decide alike
    same = second.since_last
    assert same and (same.mean, same.low, same.high, same.p) == (0, 0, 0, 1)
