from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from numpy.typing import NDArray

from optc.models.errors import InputError
from optc.models.model import Model
from optc.models.session import Session
from optc.passes.base import Exact
from optc.passes.verify.compare import compare
from optc.targets.artifact import Artifact
from optc.targets.cpu import Cpu

Arrays = dict[str, NDArray[Any]]

X: Arrays = {"x": np.random.default_rng(0).standard_normal((2, 3, 8, 8)).astype(np.float32)}


def model(text: str, opset: int = 17) -> Model:
    head = f'<ir_version: 8, opset_import: ["": {opset}, "ai.onnx.ml": 3, "own": 1, "com.microsoft": 1]>'
    return Model(onnx.parser.parse_model(f"{head} {text}"))


def build(text: str, folder: Path) -> Artifact:
    return Cpu().build(model(text), folder)


def same_as_onnx_runtime(artifact: Artifact, feeds: Arrays) -> None:
    wanted = Session(artifact.model).run(feeds)
    assert not [d for d in compare(wanted, artifact.run(feeds), Exact()) if d.broken]


def islands(artifact: Artifact) -> dict[str, str]:
    return {p.op: str(p.reason) for p in artifact.placement if p.where == "island"}


def test_plain_operators_are_all_tvm_s(tmp_path: Path) -> None:
    text = """g (float[N,3,8,8] x) => (float[N,3,4,4] y, int64[4] s) {
      a = Relu(x) y = MaxPool <kernel_shape = [2,2], strides = [2,2]>(a) s = Shape(y) }"""
    artifact = build(text, tmp_path)
    assert islands(artifact) == {}
    same_as_onnx_runtime(artifact, X)
    same_as_onnx_runtime(artifact, {"x": X["x"][:1]})


def test_an_operator_without_converter_is_an_island_between(tmp_path: Path) -> None:
    text = """g (float[2,3,8,8] x) => (float[2,3] y) { a = Relu(x) b = Det(a) y = Neg(b) }"""
    artifact = build(text, tmp_path)
    assert islands(artifact) == {"Det": "TVM cannot import it: Operator Det not implemented."}
    assert "island_0.onnx" in artifact.manifest["files"]
    same_as_onnx_runtime(artifact, X)


def test_another_domain_that_onnx_runtime_knows_is_an_island(tmp_path: Path) -> None:
    text = "g (float[2,3,8,8] x) => (float[2,3,8,8] y) { a = ai.onnx.ml.Binarizer(x) y = Neg(a) }"
    artifact = build(text, tmp_path)
    assert "domain ai.onnx.ml" in islands(artifact)["Binarizer"]
    same_as_onnx_runtime(artifact, X)


def test_an_island_with_two_outputs_and_one_that_is_also_the_model_s(tmp_path: Path) -> None:
    text = """g (float[2,3,8,8] x) => (float[2,3] d, float[2,3] y) {
      d = Det(x) e = Shape(x) i = IsInf <detect_negative = 0>(d) f = Cast <to = 1>(i) y = Add(f, d) }"""
    artifact = build(text, tmp_path)
    assert set(islands(artifact)) == {"Det", "IsInf"}
    same_as_onnx_runtime(artifact, X)


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("g (float[2,3,8,8] x) => (int64[4,M] y) { y = NonZero(x) }", "depends on data"),
        (
            """g (float[2,3,8,8] x) => (float[2,3,8,8] y) <bool c = {1}> { y = If (c)
               <then_branch = t () => (float[2,3,8,8] p) { p = Neg(x) },
                else_branch = e () => (float[2,3,8,8] q) { q = Abs(x) }> }""",
            "control flow runs in ONNX Runtime",
        ),
    ],
)
def test_the_whole_graph_as_one_island(text: str, reason: str, tmp_path: Path) -> None:
    artifact = build(text, tmp_path)
    assert artifact.manifest["program"] == {"kind": "island"}
    assert all("whole graph is one island" in r and reason in r for r in islands(artifact).values())
    same_as_onnx_runtime(artifact, X)


def test_a_sequence_inside_stays_inside_its_island(tmp_path: Path) -> None:
    text = """g (float[2,3,8,8] x) => (float[2,3,8,8] y) {
      a = Relu(x) s = SplitToSequence <axis = 1>(a) b = ConcatFromSequence <axis = 1>(s) y = Neg(b) }"""
    artifact = build(text, tmp_path)
    assert "Relu" not in islands(artifact)
    same_as_onnx_runtime(artifact, X)


def test_what_fails_to_compile_becomes_an_island(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from optc.targets import cpu

    compile = cpu._compile

    def fails_on_exp(module: Any, level: str) -> Any:
        if "R.exp(" in str(module):
            raise RuntimeError("no exponentials today")
        return compile(module, level)

    monkeypatch.setattr(cpu, "_compile", fails_on_exp)
    artifact = build(
        "g (float[2,3,8,8] x) => (float[2,3,8,8] y) { a = Relu(x) b = Exp(a) y = Neg(b) }", tmp_path
    )
    assert islands(artifact) == {"Exp": "TVM cannot compile it: no exponentials today"}
    same_as_onnx_runtime(artifact, X)


def test_a_compiler_that_always_fails_leaves_the_whole_graph_to_onnx_runtime(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from optc.targets import cpu

    def fails(module: Any, level: str) -> Any:
        raise RuntimeError("nothing today")

    monkeypatch.setattr(cpu, "_compile", fails)
    artifact = build("g (float[2,3,8,8] x) => (float[2,3,8,8] y) { a = Relu(x) y = Neg(a) }", tmp_path)
    assert artifact.manifest["program"] == {"kind": "island"}
    same_as_onnx_runtime(artifact, X)


def test_a_fault_of_our_own_is_not_hidden(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from optc.targets import cpu

    def fault(module: Any, level: str) -> Any:
        raise AttributeError("a typing error")

    monkeypatch.setattr(cpu, "_compile", fault)
    with pytest.raises(AttributeError):
        build("g (float[2,3,8,8] x) => (float[2,3,8,8] y) { y = Neg(x) }", tmp_path)


def test_an_unknown_domain_is_named(tmp_path: Path) -> None:
    text = "g (float[4] x) => (float[4] y) { [odd] y = own.Strange(x) }"
    with pytest.raises(InputError, match=r"node 'odd' \(Strange\): the domain 'own' is unknown"):
        build(text, tmp_path)


def test_what_neither_takes_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="ONNX Runtime refuses it"):
        build("g (float[4] x) => (float[4] y) { y = com.microsoft.NoSuchOperator(x) }", tmp_path)


def test_local_functions_are_inlined(tmp_path: Path) -> None:
    text = """<ir_version: 8, opset_import: ["": 17, "own": 1]>
    g (float[2,3,8,8] x) => (float[2,3,8,8] y) { y = own.Twice(x) }
    <domain: "own", opset_import: ["": 17]> Twice (a) => (b) { b = Add(a, a) }"""
    artifact = Cpu().build(Model(onnx.parser.parse_model(text)), tmp_path)
    assert [p.op for p in artifact.placement] == ["Add"] and islands(artifact) == {}
    same_as_onnx_runtime(artifact, X)


def test_scalars_and_outputs_that_are_inputs_or_constants(tmp_path: Path) -> None:
    text = """g (float x, int64 k) => (float y, float x2, int64[2] c) <int64[2] c0 = {3, 4}> {
      y = Mul(x, x) x2 = Identity(x) c = Add(c0, k) }"""
    same_as_onnx_runtime(build(text, tmp_path), {"x": np.array(3, np.float32), "k": np.array(2)})


def test_initializers_that_are_inputs_are_constants(tmp_path: Path) -> None:
    text = "g (float[2] x, float[2] w = {1, 2}) => (float[2] y) { y = Add(x, w) }"
    artifact = build(text, tmp_path)
    assert [s["name"] for s in artifact.manifest["inputs"]] == ["x"]
    same_as_onnx_runtime(artifact, {"x": np.ones(2, np.float32)})


def test_unnamed_free_dimensions(tmp_path: Path) -> None:
    text = "g (float[?,4] x) => (float[?,4] y) { a = Relu(x) y = Neg(a) }"
    artifact = build(text, tmp_path)
    assert islands(artifact) == {}
    same_as_onnx_runtime(artifact, {"x": np.ones((5, 4), np.float32)})


@pytest.mark.parametrize("axis", ["none", "per channel"])
def test_quantized_convolutions_agree_with_onnx_runtime(axis: str, tmp_path: Path) -> None:
    """Codes are compared: at most one in a hundred differs, by one unit."""
    scale, zero, shape, attribute = "0.02", "0", "", ""
    if axis == "per channel":
        scale, zero, shape, attribute = "0.02, 0.03, 0.01, 0.04", "0, 0, 0, 0", "[4]", "<axis = 0>"
    text = f"""g (float[2,3,8,8] x) => (uint8[2,4,8,8] y)
    <float xs = {{0.03}}, uint8 xz = {{128}}, float{shape} ws = {{{scale}}}, int8{shape} wz = {{{zero}}},
     float ys = {{0.05}}, int8[4,3,3,3] w> {{
      xq = QuantizeLinear(x, xs, xz) xd = DequantizeLinear(xq, xs, xz)
      wd = DequantizeLinear {attribute}(w, ws, wz)
      c = Conv <pads = [1,1,1,1]>(xd, wd) r = Relu(c) y = QuantizeLinear(r, ys, xz) }}"""
    text = text.replace(", int8[4,3,3,3] w>", ">")
    found = onnx.parser.parse_model(f'<ir_version: 8, opset_import: ["": 17]> {text}')
    codes = np.random.default_rng(1).integers(-127, 128, (4, 3, 3, 3)).astype(np.int8)
    found.graph.initializer.append(onnx.numpy_helper.from_array(codes, "w"))
    artifact = Cpu().build(Model(found), tmp_path)
    assert islands(artifact) == {}
    wanted = Session(artifact.model).run(X)["y"].astype(int)
    difference = np.abs(artifact.run(X)["y"].astype(int) - wanted)
    assert difference.max() <= 1 and (difference != 0).mean() < 0.01


def test_bad_feeds_are_told_before_tvm_sees_them(tmp_path: Path) -> None:
    runner = build("g (float[N,4] x) => (float[N,4] y) { y = Relu(x) }", tmp_path).runner()
    with pytest.raises(InputError, match="takes float32, not float64"):
        runner.run({"x": np.zeros((1, 4))})
    with pytest.raises(InputError, match=r"takes shape \[N, 4\]"):
        runner.run({"x": np.zeros((1, 5), np.float32)})


def test_tvm_prints_nothing(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    build("g (float[2,3,8,8] x) => (float[2,3] y) { a = Relu(x) b = Det(a) y = Neg(b) }", tmp_path)
    assert capfd.readouterr() == ("", "")
