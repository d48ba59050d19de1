"""The pipeline: order, watchers, failures that name the pass, the node and the passes before."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import onnx
import pytest

from optc.models.errors import InputError
from optc.models.model import Model
from optc.passes.base import Context, Contract, Exact
from optc.passes.pipeline import PassError, Pipeline, Snapshot, Step, Watcher

TEXT = '<ir_version: 8, opset_import: ["": 17]> g (float[N] x) => (float[N] y) { y = Relu(x) }'


def model() -> Model:
    return Model(onnx.parser.parse_model(TEXT))


@dataclass(frozen=True)
class Rename:
    name: ClassVar[str] = "rename"
    contract: ClassVar[Contract] = Exact()
    to: str = "n"

    def run(self, model: Model, context: Context) -> bool:
        (node,) = model.view.nodes
        if node.name == self.to:
            context.decline(node, "it has the name already")
            return False
        model.graph.nodes[0].name = self.to
        context.facts["renamed"] = 1
        return True


@dataclass(frozen=True)
class Fail:
    name: ClassVar[str] = "fail"
    contract: ClassVar[Contract] = Exact()
    user: bool = False

    def run(self, model: Model, context: Context) -> bool:
        for _ in context.visit(model.graph.nodes):
            raise InputError("not this way") if self.user else KeyError("x")
        return False


class Names(Watcher):
    needs_before = True

    def __init__(self) -> None:
        self.seen: list[tuple[str, str, str]] = []

    def watch(self, p: object, before: Snapshot, after: Model, step: Step) -> None:
        self.seen.append((step.text, before.model.view.nodes[0].name, after.view.nodes[0].name))


def test_steps_and_watchers() -> None:
    names = Names()
    steps = Pipeline((Rename("a"), Rename("b"), Rename("b"))).run(model(), watchers=[names])
    assert [s.changed for s in steps] == [True, True, False]
    assert steps[0].facts == {"renamed": 1} and steps[2].facts == {}
    assert [d.where for d in steps[2].declined] == ["b (Relu)"]
    assert names.seen == [
        ("rename{to=a}", "", "a"),
        ("rename{to=b}", "a", "b"),
        ("rename{to=b}", "b", "b"),
    ]


def test_a_pass_that_changes_nothing_leaves_the_bytes() -> None:
    source = onnx.parser.parse_model(TEXT)
    source.graph.node[0].name = "n"
    made = Model(source)
    Pipeline((Rename(),)).run(made)
    assert not made.changed
    assert made.to_proto().SerializeToString() == source.SerializeToString()


@pytest.mark.parametrize(("user", "status", "text"), [(True, 2, "not this way"), (False, 1, "KeyError: 'x'")])
def test_a_failure_names_pass_node_and_history(user: bool, status: int, text: str) -> None:
    with pytest.raises(PassError) as caught:
        Pipeline((Rename("a"), Fail(user))).run(model())
    message = str(caught.value)
    assert "pass 'fail' failed at node a (Relu) (after rename{to=a})" in message and text in message
    assert caught.value.exit_status == status


def test_a_watcher_that_forgot_to_ask_for_before() -> None:
    class Careless(Names):
        needs_before = False

    with pytest.raises(RuntimeError, match="needs_before"):
        Pipeline((Rename(),)).run(model(), watchers=[Careless()])
