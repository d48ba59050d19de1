"""From a model to a verified artifact, with a target that needs no compiler."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import onnx
import pytest
from onnx import numpy_helper

import optc
from optc.models.errors import InputError
from optc.models.model import Model
from optc.passes.base import Context, Contract, Lossy
from optc.passes.pipeline import PassError
from optc.passes.verify.watcher import VerifyError
from optc.targets.agreement import FLOAT, agreement
from optc.targets.compiler import make_passes, make_target

pytestmark = pytest.mark.usefixtures("fake_target")


@dataclass(frozen=True)
class Shrink:
    """Makes every weight smaller."""

    name: ClassVar[str] = "shrink"
    contract: Contract = Lossy("scale")
    factor: float = 0.99

    def run(self, model: Model, context: Context) -> bool:
        for constant in (t for n in model.graph.nodes for t in n.inputs if hasattr(t, "values")):
            constant.values = np.array(constant.values) * np.float32(self.factor)
        return True


def samples(path: Path, count: int = 20, **extra: Any) -> Path:
    x = np.random.default_rng(1).standard_normal((count, 4)).astype(np.float32)
    np.savez(path, x=x, **extra)
    return path


def test_the_artifact_and_what_happened(linear_file: Path, tmp_path: Path) -> None:
    out = tmp_path / "a"
    result = optc.compile(linear_file, "fake", [Shrink()], out=out, verify=True, seed=3)
    manifest = json.loads((out / "manifest.json").read_text())
    assert manifest["pipeline"].startswith("shrink") and manifest["seed"] == 3
    assert [r["pass"] for r in manifest["verification"]] == ["(input)", "shrink", "artifact (fake)"]
    assert "seconds" not in json.dumps(manifest)
    assert result.artifact.folder == out
    assert [p.reason for p in result.artifact.placement] == [None, "Relu is for others"]
    assert optc.load(out).run({"x": np.ones((1, 4), np.float32)})["y"].shape == (1, 3)
    assert result.outcome.rows[1].snr_db == pytest.approx(40, abs=0.1)


def test_the_same_bytes_twice(linear_file: Path, tmp_path: Path) -> None:
    np.random.seed(5)
    for name in "ab":
        optc.compile(linear_file, "fake", [Shrink()], out=tmp_path / name, verify=True)
    files = sorted(p.name for p in (tmp_path / "a").iterdir())
    assert files == ["code.bin", "manifest.json", "model.onnx"]
    assert all((tmp_path / "a" / n).read_bytes() == (tmp_path / "b" / n).read_bytes() for n in files)


def test_a_model_in_memory_is_left_as_it_is(
    linear: onnx.ModelProto, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    model = Model(linear)
    before = model.to_proto().SerializeToString()
    result = optc.compile(model, "fake", [Shrink()])
    assert model.to_proto().SerializeToString() == before
    assert result.artifact.folder == Path("linear.fake")


def test_accuracy_before_and_after(linear: onnx.ModelProto, linear_file: Path, tmp_path: Path) -> None:
    weights = numpy_helper.to_array(linear.graph.initializer[0])
    data = np.load(samples(tmp_path / "x.npz"))["x"]
    label = np.maximum(data @ weights, 0).argmax(axis=1)
    evaluation = samples(tmp_path / "e.npz", label=label)
    outcome = optc.compile(
        linear_file, "fake", [Shrink(factor=-1.0)], out=tmp_path / "a", evaluation=evaluation
    ).outcome
    assert outcome.score_before and outcome.score_before.value == 1
    assert outcome.score_after and outcome.score_after.value < 0.5


def test_the_guard_uses_the_target_s_cost(linear_file: Path, tmp_path: Path) -> None:
    result = optc.compile(linear_file, "fake", [Shrink()], out=tmp_path / "a", guard=True, verify=True)
    (step,) = result.outcome.steps
    assert step.rolled_back == "not faster: 2 cycles after, 2 cycles before (estimated: nodes)"
    assert result.artifact.manifest["steps"][0]["changed"] is False
    assert (tmp_path / "a" / "model.onnx").read_bytes() == linear_file.read_bytes()


def test_shapes_are_bound_first(linear_file: Path, tmp_path: Path) -> None:
    result = optc.compile(linear_file, "fake", (), out=tmp_path / "a", shapes=["x=5,4"])
    assert result.artifact.manifest["inputs"][0]["shape"] == [5, 4]
    assert result.artifact.manifest["pipeline"] == 'bind-shapes{shapes=["x=5,4"]}'


def broken_artifact(linear_file: Path, out: Path) -> None:
    optc.compile(linear_file, "fake{error=0.5}", (), out=out, verify=True)


def broken_pass(linear_file: Path, out: Path) -> None:
    optc.compile(linear_file, "fake", [Shrink(FLOAT)], out=out, verify=True)


def broken_build(linear_file: Path, out: Path) -> None:
    optc.compile(linear_file, "fake{fails=build}", (), out=out)


@pytest.mark.parametrize(
    "work, error, text",
    [
        (
            broken_artifact,
            VerifyError,
            "the artifact does not agree .* on its model: output 'y'",
        ),
        (broken_pass, VerifyError, "pass 'shrink' breaks its contract"),
        (broken_build, RuntimeError, "the build broke"),
    ],
)
def test_failures_leave_nothing(
    work: Callable[[Path, Path], None], error: type[Exception], text: str, linear_file: Path, tmp_path: Path
) -> None:
    with pytest.raises(error, match=text):
        work(linear_file, tmp_path / "out" / "a")
    assert list((tmp_path / "out").glob("*") if (tmp_path / "out").exists() else []) == []


def test_the_last_row_is_the_guilty_one(linear_file: Path, tmp_path: Path) -> None:
    with pytest.raises(VerifyError) as caught:
        broken_artifact(linear_file, tmp_path / "a")
    assert [(r.name, r.broken) for r in caught.value.rows] == [("artifact (fake)", True)]


def test_an_artifact_that_cannot_run_here_is_said_not_to(linear_file: Path, tmp_path: Path) -> None:
    result = optc.compile(linear_file, "fake{fails=run}", (), out=tmp_path / "a", verify=True)
    assert result.outcome.rows[-1].note == "not run here: there is no fake device here; buy one"


def test_unknown_domains_are_refused(tmp_path: Path) -> None:
    text = """<ir_version: 8, opset_import: ["": 17, "com.acme": 1]>
    g (float[2] x) => (float[2] y) { h = Relu(x) y = com.acme.Magic(h) }"""
    with pytest.raises(InputError, match=r"node y \(Magic\) is of the unknown domain 'com.acme'"):
        optc.compile(Model(onnx.parser.parse_model(text)), "fake", out=tmp_path / "a")


def test_local_functions_are_known(tmp_path: Path) -> None:
    text = """<ir_version: 8, opset_import: ["": 17, "local": 1]>
    g (float[2] x) => (float[2] y) { y = local.twice(x) }
    <domain: "local", opset_import: ["": 17]> twice (a) => (b) { b = Add(a, a) }"""
    optc.compile(Model(onnx.parser.parse_model(text)), "fake", (), out=tmp_path / "a", verify=True)


def test_bad_usage(linear_file: Path, tmp_path: Path) -> None:
    with pytest.raises(InputError, match="unknown target 'fke'; did you mean 'fake'"):
        optc.compile(linear_file, "fke")
    with pytest.raises(InputError, match="is not one target"):
        make_target("fake,fake")
    with pytest.raises(InputError, match="unknown pass 'prume'"):
        optc.compile(linear_file, "fake", "prume")
    with pytest.raises(InputError, match="exists and is not an artifact"):
        optc.compile(linear_file, "fake", (), out=linear_file)


def test_a_failing_pass_says_which(linear_file: Path, tmp_path: Path) -> None:
    with pytest.raises(PassError, match="pass 'bind-shapes' failed .the first pass.: --shape z=1,4"):
        optc.compile(linear_file, "fake", (), out=tmp_path / "a", shapes=["z=1,4"])


def test_standard_stands_for_the_standard_pipeline() -> None:
    target = make_target("fake")
    standard = [p.name for p in make_passes(None, target)]
    assert standard == ["canonicalize"]
    assert [p.name for p in make_passes("standard,prune", target)] == [*standard, "prune"]
    assert [p.name for p in make_passes("prune", target)] == ["prune"]


def test_what_an_artifact_owes(linear: onnx.ModelProto) -> None:
    assert agreement(Model(linear)) is FLOAT
    text = """<ir_version: 8, opset_import: ["": 17]> g (float[2] x) => (float[2] y) {
    s = Constant<value=float {0.1}>() q = QuantizeLinear(x, s) y = DequantizeLinear(q, s) }"""
    assert isinstance(agreement(Model(onnx.parser.parse_model(text))), Lossy)
