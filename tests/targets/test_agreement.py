from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest

import optc
from optc.models.model import Model
from optc.passes.base import Exact
from optc.passes.quantize.reference import Rounding
from optc.passes.verify.watcher import VerifyError
from optc.targets.agreement import FLOAT, agreement
from optc.targets.lowering.integer import layers

TEXT = """<ir_version: 10, opset_import: ["": 21]> g (float[N,2] x) => (float[N,1] y)
    <float s = {0.5}, uint8 z = {3}, int8[2,1] w = {2,-3}> {
    q = QuantizeLinear (x, s, z) d = DequantizeLinear (q, s, z) wd = DequantizeLinear (w, s)
    m = MatMul (d, wd) mq = QuantizeLinear (m, s, z) y = DequantizeLinear (mq, s, z) }"""

X = {"x": np.array([[1, 1], [0.5, 0], [0, 0.5]], np.float32)}  # 2 a - 3 b in steps of 0.5: ties among them


def test_a_quantized_artifact_equals_the_reference(tmp_path: Path) -> None:
    result = optc.compile(
        Model(onnx.parser.parse_model(TEXT)), "cpu", (), out=tmp_path / "a", inputs=X, verify=True
    )
    rows = {row.name: row for row in result.outcome.rows}
    reference = rows["artifact (cpu) / reference"]
    assert reference.contract == "equal" and reference.max_error == 0
    assert rows["artifact (cpu) / ONNX Runtime"].contract.startswith("lossy")
    assert all(p.integer for p in result.artifact.placement)


def test_one_code_off_is_found(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    right = layers.ended

    def wrong(acc: Any, ending: Any, bound: int, rounding: Rounding, given: Any, index: Any) -> Any:
        return right(acc, ending, bound, "half_up", given, index)

    monkeypatch.setattr(layers, "ended", wrong)
    model = Model(onnx.parser.parse_model(TEXT))
    with pytest.raises(VerifyError, match="integer reference: output 'y' moved by 0.5"):
        optc.compile(model, "cpu", (), out=tmp_path / "a", inputs=X, verify=True)
    assert not (tmp_path / "a").exists()


def test_codes_at_the_ends(tmp_path: Path) -> None:
    """The same inputs, given as floats, reach an artifact that takes codes and gives codes."""
    model = Model(onnx.parser.parse_model(TEXT))
    result = optc.compile(model, "cpu", "integer-ends", out=tmp_path / "a", inputs=X, verify=True)
    rows = {row.name: row for row in result.outcome.rows}
    assert rows["integer-ends"].max_error == 0
    reference = rows["artifact (cpu) / reference"]
    assert reference.contract == "equal" and reference.max_error == 0
    assert [s["dtype"] for s in result.artifact.manifest["inputs"]] == ["uint8"]
    assert result.artifact.run({"x": np.array([[5, 3]], np.uint8)})["y"].dtype == np.uint8


def test_an_artifact_of_float16_owes_float16(tmp_path: Path) -> None:
    model = Model(
        onnx.parser.parse_model(
            """<ir_version: 10, opset_import: ["": 21]> g (float[N,2] x) => (float[N,2] y)
            <float[2,2] w = {1.1, 2.3, -0.7, 0.3}> { h = MatMul (x, w) y = Sigmoid (h) }"""
        )
    )
    result = optc.compile(model, "cpu", "convert-floats", out=tmp_path / "a", inputs=X, verify=True)
    (row,) = [r for r in result.outcome.rows if r.name == "artifact (cpu)"]
    assert row.contract == "exact" and not row.broken
    contract = agreement(result.artifact.model)
    assert isinstance(contract, Exact) and contract.tolerance["float32"] == FLOAT.tolerance["float16"]
    assert agreement(model) is FLOAT
