from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest

from optc.models.model import Model
from optc.models.session import Session
from optc.passes.base import Exact
from optc.passes.verify.compare import compare
from optc.targets.cpu import Cpu


def scheduled(text: str) -> str:
    """A function in TVM's script once it is scheduled; "" where it is left alone."""
    import tvm

    from optc.targets.lowering.cpu_schedule import CpuSchedule

    func = tvm.script.from_source(text)
    result = CpuSchedule().apply(func, tvm.target.Target("llvm"), False)
    return "" if result is None else str(result.mod["main"])


MATMUL = """# from tvm.script import tirx as T
@T.prim_func(s_tir=True)
def main(
    a: T.Buffer(({m}, 64), "float32"), b: T.Buffer((64, 32), "float32"), c: T.Buffer(({m}, 32), "float32")
):
    for i, j, k in T.grid({m}, 32, 64):
        with T.sblock("matmul"):
            vi, vj, vk = T.axis.remap("SSR", [i, j, k])
            with T.init():
                c[vi, vj] = T.float32(0)
            c[vi, vj] = c[vi, vj] + a[vi, vk] * b[vk, vj]
"""


def test_sums_stand_outside_the_inner_loop_and_rows_run_in_parallel() -> None:
    text = scheduled(MATMUL.format(m=64))
    assert "T.parallel(64)" in text
    assert "for k in range(64)" in text.split("T.vectorized(32)")[1]
    assert text.rindex("for k in") < text.rindex("T.vectorized(32)")
    assert "matmul_init" in text


def test_little_work_is_not_worth_threads() -> None:
    assert "T.parallel" not in scheduled(MATMUL.format(m=1))


CASES: list[tuple[str, dict[str, Any]]] = [
    (
        "g (float[N,8,20,20] x) => (float[N,4,10,10] y) <float[4,8,3,3] w> {"
        " c = Conv <pads = [1,1,1,1], strides = [2,2]>(x, w) y = Relu(c) }",
        {"x": (2, 8, 20, 20), "w": (4, 8, 3, 3)},
    ),
    (
        "g (float[N,8,20,20] x) => (float[N,8,20,20] y) <float[8,1,3,3] w> {"
        " y = Conv <pads = [1,1,1,1], group = 8>(x, w) }",
        {"x": (1, 8, 20, 20), "w": (8, 1, 3, 3)},
    ),
    (
        "g (float[B,S,64] x) => (float[B,S,48] y) <float[64,48] w> {"
        " m = MatMul(x, w) n = Softmax(m) a = ReduceMean <axes = [2]>(m) y = Mul(n, a) }",
        {"x": (2, 33, 64), "w": (64, 48)},
    ),
    ("g (float[1,4096] x) => (float[] y) { y = ReduceSum <keepdims = 0>(x) }", {"x": (1, 4096)}),
]


@pytest.mark.parametrize(("text", "shapes"), CASES)
def test_results_stay(text: str, shapes: dict[str, tuple[int, ...]], tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    arrays = {n: rng.standard_normal(s).astype(np.float32) for n, s in shapes.items()}
    for name in [n for n in arrays if n != "x"]:
        text = text.replace(f"<float{list(shapes[name])} {name}>".replace(", ", ","), "")
    proto = onnx.parser.parse_model(f'<ir_version: 8, opset_import: ["": 17]> {text}')
    proto.graph.initializer.extend(
        onnx.numpy_helper.from_array(array, name) for name, array in arrays.items() if name != "x"
    )
    artifact = Cpu().build(Model(proto), tmp_path)
    assert {p.where for p in artifact.placement} == {"cpu"}
    wanted = Session(artifact.model).run({"x": arrays["x"]})
    assert not [d for d in compare(wanted, artifact.run({"x": arrays["x"]}), Exact()) if d.broken]
