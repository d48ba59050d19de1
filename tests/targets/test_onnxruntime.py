"""The target that is ONNX Runtime itself."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest

from optc.models.errors import InputError
from optc.models.model import Model
from optc.models.session import Session
from optc.targets.artifact import load
from optc.targets.compiler import make_target
from optc.targets.onnxruntime import OnnxRuntime

STRINGS = """<ir_version: 8, opset_import: ["": 17, "ai.onnx.ml": 3]>
g (string[N] x) => (string[N] y) { y = Identity(x) }"""


@pytest.mark.parametrize("optimize", [False, True])
def test_it_computes_what_a_session_computes(optimize: bool, tmp_path: Path, linear: Any) -> None:
    OnnxRuntime(threads=1, optimize=optimize).build(Model(linear), tmp_path)
    artifact = load(tmp_path)
    assert artifact.target == OnnxRuntime(1, optimize)
    assert [(p.op, p.where) for p in artifact.placement] == [
        ("MatMul", "onnxruntime"),
        ("Relu", "onnxruntime"),
    ]
    x = np.random.default_rng(0).standard_normal((5, 4)).astype(np.float32)
    wanted = Session(artifact.model, optimize).run({"x": x})["y"]
    np.testing.assert_array_equal(artifact.runner().run({"x": x})["y"], wanted)
    with pytest.raises(InputError, match="takes float32, not float64"):
        artifact.run({"x": x.astype(np.float64)})


def test_what_tvm_does_not_take(tmp_path: Path) -> None:
    artifact = OnnxRuntime().build(Model(onnx.parser.parse_model(STRINGS)), tmp_path)
    assert artifact.run({"x": np.array(["a", "b"], object)})["y"].tolist() == ["a", "b"]


def test_its_text_and_its_options() -> None:
    assert make_target("onnxruntime{threads=2,optimize=false}") == OnnxRuntime(2, False)
    with pytest.raises(InputError, match=r"onnxruntime\{threads=-1\}: give a number of threads"):
        make_target("onnxruntime{threads=-1}")


def test_a_model_that_onnx_runtime_refuses(tmp_path: Path) -> None:
    text = (
        '<ir_version: 8, opset_import: ["": 17, "far": 1]> g (float[N] x) => (float[N] y) { y = far.Off(x) }'
    )
    with pytest.raises(InputError, match="ONNX Runtime refuses it"):
        OnnxRuntime().build(Model(onnx.parser.parse_model(text)), tmp_path)


@pytest.mark.parametrize(("said", "given", "used"), [("3", 0, 3), ("3", 2, 2), ("no", 0, 0), ("", 0, 0)])
def test_threads(said: str, given: int, used: int, monkeypatch: pytest.MonkeyPatch, linear: Any) -> None:
    monkeypatch.setenv("OMP_NUM_THREADS", said)
    session = Session(Model(linear), threads=given)
    assert session._session.get_session_options().intra_op_num_threads == used
