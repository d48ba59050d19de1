"""Passes that calibrate or learn, on samples of different shapes: a folder of files."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx
import pytest

from optc.models.data import Samples
from optc.models.model import Model
from optc.models.session import Session
from optc.passes.base import Context
from optc.passes.pipeline import Pipeline
from optc.passes.registry import parse_passes
from optc.passes.verify.checked import Checks, run_checked

CONV = """<ir_version: 10, opset_import: ["": 21]>
g (float[N,2,H,W] x) => (float[N,3] y) {
  a = Conv <pads=[1,1,1,1]> (x, w1)
  r = Relu (a)
  c = Conv <pads=[1,1,1,1]> (r, w2)
  s = Relu (c)
  p = GlobalAveragePool (s)
  f = Flatten (p)
  y = MatMul (f, w3)
}"""
ATTENTION = """<ir_version: 10, opset_import: ["": 21]>
g (float[N,S,8] x) => (float[N,S,8] y) {
  q = MatMul (x, wq)
  k = MatMul (x, wk)
  v = MatMul (x, wv)
  t = Transpose <perm=[0,2,1]> (k)
  a = MatMul (q, t)
  s = Softmax <axis=-1> (a)
  m = MatMul (s, v)
  h = MatMul (m, w1)
  r = Relu (h)
  y = MatMul (r, w2)
}"""
WEIGHTS = {
    CONV: {"w1": (16, 2, 3, 3), "w2": (16, 16, 3, 3), "w3": (16, 3)},
    ATTENTION: {"wq": (8, 8), "wk": (8, 8), "wv": (8, 8), "w1": (8, 32), "w2": (32, 8)},
}
SHAPES = {CONV: [(2, 8, 6), (2, 5, 9), (2, 8, 6), (2, 7, 7)], ATTENTION: [(3, 8), (11, 8), (3, 8), (6, 8)]}
LEARN = ["quantize{weights=learnt}", "prune{repair=weights}", "prune-channels{repair=weights}"]


def network(text: str) -> Model:
    proto = onnx.parser.parse_model(text)
    rng = np.random.default_rng(3)
    for name, shape in WEIGHTS[text].items():
        values = rng.standard_normal(shape) / np.sqrt(np.prod(shape) / shape[0 if len(shape) > 2 else 1])
        proto.graph.initializer.append(onnx.numpy_helper.from_array(values.astype(np.float32), name))
    return Model(onnx.shape_inference.infer_shapes(proto))


def inputs(text: str) -> list[np.ndarray]:
    """Four samples of each shape, batch first."""
    rng = np.random.default_rng(0)
    return [np.cumsum(rng.standard_normal((4, *s)), -1).astype(np.float32) / 3 for s in SHAPES[text]]


def folder(path: Path, text: str) -> Samples:
    for index, x in enumerate(inputs(text)):
        np.savez(path / f"{index}.npz", x=x)
    return Samples(path)


def noise(text: str, pipeline: str, data: Samples) -> float:
    """The mean squared error on the samples themselves."""
    model, before = network(text), Session(network(text))
    (step,) = Pipeline(parse_passes(pipeline)).run(model, Context(calibration=data, align=4))
    assert step.changed
    onnx.checker.check_model(model.to_proto(), full_check=True)
    after = Session(model)
    pairs = [(before.run({"x": x})["y"], after.run({"x": x})["y"]) for x in inputs(text)]
    return float(np.mean([np.mean((a - b) ** 2) for a, b in pairs]))


@pytest.mark.parametrize("text", [CONV, ATTENTION], ids=["conv", "attention"])
@pytest.mark.parametrize("learn", LEARN)
def test_learning_brings_outputs_nearer(text: str, learn: str, tmp_path: Path) -> None:
    data = folder(tmp_path, text)
    assert noise(text, learn, data) < noise(text, learn.partition("{")[0], data)


@pytest.mark.parametrize("text", [CONV, ATTENTION], ids=["conv", "attention"])
@pytest.mark.parametrize(
    "pipeline",
    [
        "quantize{calibration=mse}",
        "quantize{calibration=percentile}",
        "prune{criterion=activation}",
        "prune-channels{criterion=activation,allocation=sensitivity}",
    ],
)
def test_what_else_looks_at_samples(text: str, pipeline: str, tmp_path: Path) -> None:
    assert 0 < noise(text, pipeline, folder(tmp_path, text)) < 1


@pytest.mark.parametrize("text, label", [(CONV, ()), (ATTENTION, (0,))], ids=["conv", "attention"])
@pytest.mark.parametrize("metric", ["top1", "f1"])
def test_accuracy_counts_every_sample(text: str, label: tuple[int, ...], metric: str, tmp_path: Path) -> None:
    session = Session(network(text))
    for index, x in enumerate(inputs(text)):
        np.savez(tmp_path / f"{index}.npz", x=x, label=session.run({"x": x})["y"].argmax(-1))
    data = Samples(tmp_path)
    checks = Checks(calibration=data, evaluation=data, metric=metric, verify=True)
    outcome = run_checked(parse_passes("prune{sparsity=0.9},quantize"), network(text), checks)
    first, *_, last = outcome.scores
    assert first.score.value == 1 and first.score.samples == data.length == 16
    assert last.score.value < 1 and last.since_input is not None
