from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx
import pytest

import optc
from optc.models.model import Model
from optc.targets.bench import bench, interleaved
from optc.targets.cpu import Cpu
from optc.targets.cuda.cuda import Cuda
from optc.targets.measure import Roofline

TEXT = """<ir_version: 10, opset_import: ["": 21]>
g (float[2,8] x, float[8,4] w) => (float[2,4] y) { y = MatMul(x, w) }"""


def model() -> Model:
    return Model(onnx.parser.parse_model(TEXT))


def test_rows_of_both(tmp_path: Path) -> None:
    artifact = optc.compile(model(), Cpu(), "", out=tmp_path / "m.cpu").artifact
    rows = bench(artifact, {"x": np.ones((2, 8), np.float32), "w": np.ones((8, 4), np.float32)})
    assert list(rows) == ["optc (cpu)", "onnxruntime"]
    assert all(0 < r["low"] <= r["median"] <= r["high"] for r in rows.values())
    assert rows["onnxruntime"]["ratio"] == 1


def test_runs_take_turns() -> None:
    order: list[str] = []
    times = interleaved({"a": lambda: order.append("a"), "b": lambda: order.append("b")})
    assert order == ["a", "b"] * (len(order) // 2)
    assert {len(t) for t in times.values()} == {100}


def test_the_slower_of_computing_and_reading_counts() -> None:
    assert Roofline("d", macs=64, bytes=1e9).estimate(model()).seconds == pytest.approx(1.0)
    assert Roofline("d", macs=640, bytes=1e9).estimate(model()).seconds == pytest.approx(0.1)


def test_targets_estimate_and_the_cpu_measures() -> None:
    for target in (Cpu(), Cuda()):
        assert target.cost(model()).source.startswith("estimated")
    assert Cpu().measure(model()).measured
