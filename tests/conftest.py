"""What several folders of tests share: a target that needs no compiler, and a small model."""

from __future__ import annotations

import sys
import types
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar, Literal

import numpy as np
import onnx
import pytest
from onnx import numpy_helper

from optc.models.model import Model
from optc.models.session import Session
from optc.passes.base import Pass, describe
from optc.passes.cost import Cost
from optc.targets.artifact import Artifact
from optc.targets.base import Placement
from optc.targets.registry import TARGETS

LINEAR = """<ir_version: 8, opset_import: ["": 17]>
linear (float[N,4] x) => (float[N,3] y) { h = MatMul(x, w) y = Relu(h) }"""


@dataclass(frozen=True)
class FakeRunner:
    session: Session
    error: float

    def run(self, feeds: Mapping[str, Any]) -> dict[str, Any]:
        return {k: v + v.dtype.type(self.error) for k, v in self.session.run(feeds).items()}


@dataclass(frozen=True)
class Fake:
    """A target that runs the model in ONNX Runtime, off by `error`."""

    name: ClassVar[str] = "fake"

    arch: tuple[str, ...] = ()
    error: float = 0.0
    fails: Literal["no", "build", "run"] = "no"

    def passes(self) -> tuple[Pass, ...]:
        return ()

    def accepts(self, node: Any) -> str | None:
        return "Relu is for others" if node.op == "Relu" else None

    def cost(self, model: Model) -> Cost:
        return Cost("estimated: nodes", cycles=len(model.view.nodes))

    def build(self, model: Model, out: Path) -> Artifact:
        (out / "code.bin").write_bytes(b"code")
        if self.fails == "build":
            raise RuntimeError("the build broke")
        placement = []
        for node in model.view.nodes:
            reason = self.accepts(node)
            placement.append(Placement(describe(node), node.op, "island" if reason else "fake", reason))
        return Artifact.create(out, self, model, {}, placement)

    def runner(self, artifact: Artifact) -> FakeRunner:
        if self.fails == "run":
            from optc.models.errors import MissingError

            raise MissingError("there is no fake device here; buy one")
        return FakeRunner(Session(artifact.model), self.error)


@pytest.fixture
def fake_target(monkeypatch: pytest.MonkeyPatch) -> type[Fake]:
    """The target `fake`, registered for the time of the test."""
    module = types.ModuleType("optc_fake_target")
    vars(module)["Fake"] = Fake
    monkeypatch.setitem(sys.modules, "optc_fake_target", module)
    monkeypatch.setitem(TARGETS, "fake", "optc_fake_target:Fake")
    return Fake


@pytest.fixture
def linear() -> onnx.ModelProto:
    """A MatMul and a Relu: x [N,4] float32 to y [N,3]."""
    proto = onnx.parser.parse_model(LINEAR)
    weights = np.random.default_rng(0).standard_normal((4, 3)).astype(np.float32)
    proto.graph.initializer.append(numpy_helper.from_array(weights, "w"))
    return proto


@pytest.fixture
def linear_file(linear: onnx.ModelProto, tmp_path: Path) -> Path:
    """The same as a file."""
    path = tmp_path / "linear.onnx"
    path.write_bytes(linear.SerializeToString())
    return path
