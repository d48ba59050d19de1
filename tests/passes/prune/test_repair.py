"""Repair brings outputs back towards what they were, on samples that it has not seen."""

from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest

from optc.models.data import Samples
from optc.models.errors import InputError
from optc.models.model import Model
from optc.models.session import Session
from optc.models.source import open_source
from optc.passes.base import Context, Pass
from optc.passes.pipeline import Pipeline
from optc.passes.prune.prune import Prune
from optc.passes.prune.prune_channels import PruneChannels
from optc.passes.registry import parse_passes
from optc.passes.verify.evaluate import Evaluator

TEXT = """<ir_version: 10, opset_import: ["": 21]>
g (float[N,2,8,8] x) => (float[N,3] y) {
  [first] a = Conv <pads=[1,1,1,1]> (x, w1, b1)
  r = Relu (a)
  [deep] d = Conv <pads=[1,1,1,1], group=16> (r, w2)
  [second] c = Conv (d, w3)
  s = Relu (c)
  p = GlobalAveragePool (s)
  f = Flatten (p)
  [last] m = MatMul (f, w4)
  y = Add (m, b4)
}"""
SHAPES = {
    "w1": (16, 2, 3, 3),
    "b1": (16,),
    "w2": (16, 1, 3, 3),
    "w3": (32, 16, 3, 3),
    "w4": (32, 3),
    "b4": (3,),
}


def network() -> Model:
    proto = onnx.parser.parse_model(TEXT)
    rng = np.random.default_rng(3)
    for name, shape in SHAPES.items():
        values = rng.standard_normal(shape).astype(np.float32) / np.sqrt(np.prod(shape[1:]) or 1)
        proto.graph.initializer.append(onnx.numpy_helper.from_array(values.astype(np.float32), name))
    return Model(onnx.shape_inference.infer_shapes(proto))


def inputs(seed: int, count: int) -> Any:
    rng = np.random.default_rng(seed)
    # Smooth images: neighbouring values tell of each other, so that there is something to make up with.
    return np.cumsum(rng.standard_normal((count, 2, 8, 8)), axis=-1).astype(np.float32) / 3


def noise(p: Pass, tmp_path: Path) -> float:
    np.savez(tmp_path / "calib.npz", x=inputs(0, 64))
    model, x = network(), inputs(1, 32)
    wanted = Session(model).run({"x": x})["y"]
    assert p.run(model, Context(calibration=Samples(tmp_path / "calib.npz"), align=4))
    onnx.checker.check_model(model.to_proto(), full_check=True)
    return float(np.mean((Session(model).run({"x": x})["y"] - wanted) ** 2))


@pytest.mark.parametrize("kind", [Prune, PruneChannels])
@pytest.mark.parametrize("criterion", ["magnitude", "activation"])
def test_repaired_models_are_nearer(kind: Any, criterion: str, tmp_path: Path) -> None:
    plain, bias, weights = (
        noise(kind(criterion=criterion, repair=how), tmp_path) for how in ("none", "bias", "weights")
    )
    assert bias < plain
    assert weights < min(bias, 0.8 * plain)


@pytest.mark.parametrize("pattern", ["single", "2:4", "4x2"])
def test_zeros_stay_zero(pattern: str, tmp_path: Path) -> None:
    np.savez(tmp_path / "calib.npz", x=inputs(0, 16))
    context = Context(calibration=Samples(tmp_path / "calib.npz"))
    plain, repaired = network(), network()
    Prune(pattern=pattern).run(plain, context)
    Prune(pattern=pattern, repair="weights").run(repaired, context)
    for a, b in zip(plain.view.nodes, repaired.view.nodes, strict=True):
        if a.op in ("Conv", "MatMul"):
            assert np.array_equal(a.inputs[1].values == 0, b.inputs[1].values == 0)
            assert not np.array_equal(a.inputs[1].values, b.inputs[1].values)


def test_same_seed_same_bytes(tmp_path: Path) -> None:
    np.savez(tmp_path / "calib.npz", x=inputs(0, 16))
    found = []
    for _ in range(2):
        model = network()
        context = Context(calibration=Samples(tmp_path / "calib.npz"), align=4, seed=5)
        PruneChannels(repair="weights", criterion="random").run(model, context)
        found.append(model.to_proto().SerializeToString(deterministic=True))
    assert found[0] == found[1]


TWO_LAYERS = """<ir_version: 10, opset_import: ["": 21]>
g (float[4,8] x INPUT) => (float[4,8] y, float[1,8] z) {
  [first] m = MatMul (x, v)
  a = Add (m, b)
  [second] y = Gemm <transB=1> (a, w, BIAS)
  z = Gather (TABLE, one)
}"""
SECOND = {"v": (8, 8), "b": (8,), "w": (8, 8), "c": (8,), "t": (8, 8), "rows": (4, 8), "column": (4, 1)}


def constants(model: Model) -> dict[str, Any]:
    return {t.name: onnx.numpy_helper.to_array(t) for t in model.to_proto().graph.initializer}


def repaired(how: Any, tmp_path: Path, bias: str = "c", table: str = "t", more: str = "") -> set[str]:
    """The constants that repair changes after the first of two layers was pruned; outputs get nearer."""
    rng = np.random.default_rng(0)
    text = TWO_LAYERS.replace("INPUT", more).replace("BIAS", bias).replace("TABLE", table)
    proto = onnx.parser.parse_model(text)
    for name, shape in SECOND.items():
        drawn = rng.standard_normal(shape).astype(np.float32)
        proto.graph.initializer.append(onnx.numpy_helper.from_array(drawn, name))
    proto.graph.initializer.append(onnx.numpy_helper.from_array(np.array([1]), "one"))
    x = rng.standard_normal((64, 8)).astype(np.float32) @ rng.standard_normal((8, 8)).astype(np.float32) + 2
    np.savez(tmp_path / "calib.npz", x=x)
    found, errors = [], []
    for repair in ("none", how):
        model = Model(onnx.shape_inference.infer_shapes(proto))
        wanted = Session(model).run({"x": x[:4]})["y"]
        context = Context(calibration=Samples(tmp_path / "calib.npz"))
        assert Prune(layers=("first",), repair=repair).run(model, context)
        onnx.checker.check_model(model.to_proto(), full_check=True)
        found.append(constants(model))
        errors.append(np.square(Session(model).run({"x": x[:4]})["y"] - wanted).mean())
    assert errors[1] < errors[0]
    return {name for name in found[0] if not np.array_equal(found[0][name], found[1][name])}


def test_a_weight_that_something_else_reads_stays(tmp_path: Path) -> None:
    assert repaired("weights", tmp_path) == {"v", "b", "w", "c"}
    assert repaired("weights", tmp_path, table="w") == {"v", "b", "c"}


@pytest.mark.parametrize("overridable", [", float[8,8] w", ", float[8] c"])
@pytest.mark.parametrize(("how", "wanted"), [("bias", {"b"}), ("weights", {"v", "b"})])
def test_what_a_caller_may_override_stays(
    overridable: str, how: str, wanted: set[str], tmp_path: Path
) -> None:
    assert repaired(how, tmp_path, more=overridable) == wanted


@pytest.mark.parametrize("bias", ["x", "rows", "column"])
@pytest.mark.parametrize(("how", "wanted"), [("bias", {"b"}), ("weights", {"v", "b"})])
def test_a_layer_whose_bias_is_no_constant_vector_stays(
    bias: str, how: str, wanted: set[str], tmp_path: Path
) -> None:
    assert repaired(how, tmp_path, bias=bias) == wanted


X = np.random.default_rng(3).standard_normal((8, 2), np.float32)
W = "float[2,2] w = {1, -2, 3, 0.5}"

GEMM = f"(float[N,2] x) => (float[N,2] y) <{W}> {{ y = MatMul (x, w) }}"
LEFT = [
    f"(float[8,2] x) => (float[8,2] y) <{W}, float[8,2] c = {{{', '.join(map(str, range(16)))}}}>"
    " { y = Gemm (x, w, c) }",
    f"(float[N,2] x) => (float[N,2] y) <{W}> {{ s = Neg (x) y = Gemm (x, w, s) }}",
    f"(float[N,2] x, float[2] b) => (float[N,2] y) <{W}, float[2] b = {{1, 2}}> {{ y = Gemm (x, w, b) }}",
]


def repaired_with(text: str, tmp_path: Path, options: str) -> dict[str, Any]:
    """The constants before, and after a repair that finds half of the weights gone."""
    model = Model(onnx.parser.parse_model('<ir_version: 10, opset_import: ["": 21]> g ' + text))
    before = {t.name: onnx.numpy_helper.to_array(t) for t in model.to_proto().graph.initializer}
    np.savez(tmp_path / "x.npz", x=X)
    parse_passes(f"prune{{{options}}}")[0].run(model, Context(calibration=Samples(tmp_path / "x.npz")))
    onnx.checker.check_model(model.to_proto(), full_check=True)
    Session(model).run({"x": X})
    after = {t.name: onnx.numpy_helper.to_array(t) for t in model.to_proto().graph.initializer}
    assert (after["w"] == 0).sum() == 2
    return {n: (before.get(n), after[n]) for n in after}


@pytest.mark.parametrize(
    "options", ["repair=bias", "repair=weights", "repair=weights,allocation=sensitivity"]
)
@pytest.mark.parametrize("text", LEFT, ids=["matrix", "computed", "overridable"])
def test_layers_with_another_bias_are_left(text: str, options: str, tmp_path: Path) -> None:
    for name, (before, after) in repaired_with(text, tmp_path, options).items():
        np.testing.assert_array_equal(after, np.where(after == 0, 0, before), name)


def test_the_name_of_a_new_bias_is_new(tmp_path: Path) -> None:
    head = f"(float[N,2] x) => (float[N,2] y) <{W}, float h_bias = {{5}}>"
    text = head + " { h = Gemm (x, w) y = Add (h, h_bias) }"
    found = repaired_with(text, tmp_path, "repair=bias")
    assert found["h_bias"][1] == 5 and found["h_bias_1"][1].shape == (2,)


def test_a_weight_that_others_read_is_not_fitted(tmp_path: Path) -> None:
    text = f"(float[N,2] x) => (float[N,2] y) <{W}> {{ h = MatMul (x, w) r = Relu (h) y = MatMul (r, w) }}"
    before, after = repaired_with(text, tmp_path, "repair=weights")["w"]
    np.testing.assert_array_equal(after, np.where(after == 0, 0, before))


def test_values_too_large_to_fit(tmp_path: Path) -> None:
    np.savez(tmp_path / "x.npz", x=X * np.float32(1e30))
    model = Model(onnx.parser.parse_model('<ir_version: 10, opset_import: ["": 21]> g ' + GEMM))
    with pytest.raises(InputError, match="'y' reads or makes .* too large to fit"):
        Prune(repair="weights").run(model, Context(calibration=Samples(tmp_path / "x.npz")))


def test_the_bundled_model_keeps_its_accuracy_at_half_its_weights() -> None:
    source = open_source("zoo:fashion-resnet")
    assert source.calibration is not None and source.evaluation is not None
    score = Evaluator(source.evaluation)
    before = score(source.model).value
    passes = parse_passes("canonicalize,prune{repair=weights}")
    Pipeline(passes).run(source.model, Context(calibration=source.calibration))
    assert score(source.model).value > before - 0.01
