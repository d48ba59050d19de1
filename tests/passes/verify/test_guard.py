"""The guard: no gain, no change."""

from __future__ import annotations

from dataclasses import dataclass
from itertools import cycle
from typing import ClassVar

import onnx
import pytest

from optc.models.model import Model
from optc.passes.base import Context, Contract, Exact, Lossy
from optc.passes.bind_shapes import BindShapes
from optc.passes.cost import Cost
from optc.passes.pipeline import Pipeline, Step
from optc.passes.verify.guard import GuardWatcher
from optc.passes.verify.measure import measure
from optc.passes.verify.watcher import VerifyWatcher

TEXT = '<ir_version: 8, opset_import: ["": 17]> g (float[N,4] x) => (float[N,4] y) { y = Relu(x) }'


@dataclass(frozen=True)
class Swap:
    """Turns Relu into Abs; under Exact that would be a lie, but the guard does not look at values."""

    name: ClassVar[str] = "swap"
    contract: Contract = Lossy("sign")

    def run(self, model: Model, context: Context) -> bool:
        model.graph.nodes[0].op = "Abs"
        return True


def costs(relu: float, abs_: float, source: str = "measured: test") -> object:
    return lambda model: Cost(source, seconds={"Relu": relu, "Abs": abs_}[model.view.nodes[0].op])


def guarded(p: object, cost: object) -> tuple[Model, Step]:
    model = Model(onnx.parser.parse_model(TEXT))
    (step,) = Pipeline((p,)).run(model, Context(), [GuardWatcher(cost), VerifyWatcher()])  # type: ignore[arg-type]
    return model, step


def test_a_faster_lossy_pass_stays() -> None:
    model, step = guarded(Swap(), costs(2e-3, 1e-3))
    assert step.changed and step.rolled_back is None
    assert model.view.nodes[0].op == "Abs"


@pytest.mark.parametrize("after", [0.96e-3, 1e-3, 2e-3])
def test_a_lossy_pass_without_gain_goes_back(after: float) -> None:
    model, step = guarded(Swap(), costs(1e-3, after))
    assert not step.changed
    assert (
        step.rolled_back == f"not faster beyond noise: {after * 1e3:g} ms after, 1 ms before (measured: test)"
    )
    assert model.to_proto() == onnx.parser.parse_model(TEXT)


def test_the_table_says_that_it_went_back() -> None:
    watcher = VerifyWatcher()
    model = Model(onnx.parser.parse_model(TEXT))
    Pipeline((Swap(),)).run(model, Context(), [GuardWatcher(costs(1e-3, 2e-3)), watcher])  # type: ignore[arg-type]
    row = watcher.rows[1]
    assert (
        row.note.startswith("rolled back: not faster beyond noise: 2 ms after")
        and not row.changed
        and not row.broken
    )


@pytest.mark.parametrize("after, stays", [(1.09e-3, True), (1.11e-3, False)])
def test_an_exact_pass_goes_back_only_where_it_is_slower(after: float, stays: bool) -> None:
    model = Model(onnx.parser.parse_model(TEXT))
    (step,) = Pipeline((Swap(Exact()),)).run(model, Context(), [GuardWatcher(costs(1e-3, after))])  # type: ignore[arg-type]
    assert step.changed is stays


def test_estimates_are_taken_once_and_cycles_count() -> None:
    calls: list[str] = []

    def cost(model: Model) -> Cost:
        calls.append(model.view.nodes[0].op)
        return Cost("estimated", cycles=10 if calls[-1] == "Relu" else 20)

    _, step = guarded(Swap(), cost)
    assert calls == ["Relu", "Abs"]
    assert step.rolled_back == "not faster: 20 cycles after, 10 cycles before (estimated)"


def rounds(*pairs: tuple[float, float]) -> object:
    """Measurements before (Relu) and after (Abs), round by round and over again, in ms."""
    columns = ([t * 1e-3 for t in column] for column in zip(*pairs, strict=True))
    times = {op: cycle(column) for op, column in zip(("Relu", "Abs"), columns, strict=True)}
    return lambda model: Cost("measured: test", seconds=next(times[model.view.nodes[0].op]))


def test_one_lucky_round_does_not_save_a_lossy_pass() -> None:
    _, step = guarded(Swap(), rounds((1, 1), (1, 1), (9, 1), (1, 1.1), (1, 1)))
    assert step.rolled_back == "not faster beyond noise: 1 ms after, 1 ms before (measured: test)"


def test_one_slow_round_does_not_cost_a_lossy_pass() -> None:
    _, step = guarded(Swap(), rounds((2, 1), (2, 1), (2, 9), (2, 1), (2, 1)))
    assert step.changed


def test_luck_in_most_rounds_is_not_enough() -> None:
    _, step = guarded(Swap(), rounds((2, 1), (2, 1), (1, 1), (2, 1), (2, 1)))
    assert not step.changed


def order(before: float, *after: float, contract: Contract = Swap.contract) -> list[str]:
    """What is measured, and in which order."""
    seen: list[str] = []
    cost = rounds(*((before, a) for a in after))

    def noted(model: Model) -> Cost:
        seen.append(model.view.nodes[0].op)
        return cost(model)  # type: ignore[operator, no-any-return]

    Pipeline((Swap(contract),)).run(Model(onnx.parser.parse_model(TEXT)), watchers=[GuardWatcher(noted)])
    return seen


def test_rounds_turn_around_and_there_are_more_where_they_disagree() -> None:
    assert order(2, 1) == ["Relu", "Abs", "Abs", "Relu"] * 2 + ["Relu", "Abs"]
    assert len(order(1, 2)) == 10
    assert len(order(2, 2, 2, 1, 2)) == 30
    assert len(order(2, 2, 2, 1, 2, contract=Exact())) == 10  # one round is enough for it to stay


@pytest.mark.parametrize("cycles, stays", [(99, True), (100, False)])
def test_estimates_have_no_noise(cycles: int, stays: bool) -> None:
    def cost(model: Model) -> Cost:
        return Cost("estimated", cycles=cycles if model.view.nodes[0].op == "Abs" else 100)

    _, step = guarded(Swap(), cost)
    assert step.changed is stays


def test_an_exact_pass_goes_back_only_where_every_round_is_slower() -> None:
    model = Model(onnx.parser.parse_model(TEXT))
    noisy = GuardWatcher(rounds((1, 2), (1, 2), (1, 1.05), (1, 2), (1, 2)))  # type: ignore[arg-type]
    (step,) = Pipeline((Swap(Exact()),)).run(model, Context(), [noisy])
    assert step.changed


def test_costs_that_cannot_be_compared_roll_nothing_back() -> None:
    _, step = guarded(Swap(), lambda model: Cost("estimated"))
    assert step.changed


def test_bound_shapes_are_not_judged() -> None:
    _, step = guarded(BindShapes(("x=8,4",)), costs(0.0, 0.0))
    assert step.changed


def test_measuring_in_onnx_runtime() -> None:
    cost = measure(Model(onnx.parser.parse_model(TEXT)))
    assert cost.measured and cost.seconds and cost.seconds > 0
