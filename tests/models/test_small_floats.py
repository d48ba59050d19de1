"""Nodes of float16 and bfloat16 compute in float32, each result rounded."""

from __future__ import annotations

import numpy as np
import onnx
import pytest

from optc.models.errors import InputError
from optc.models.model import Model
from optc.models.session import Session
from optc.models.small_floats import BFLOAT16, FLOAT16, mentions, with_float32_nodes

TEXT = """<ir_version: 10, opset_import: ["": 22]> g (float[2,3] x) => (float[2,3] y) {
a = Cast <to=16> (x) b = Add (a, a) c = Mul (b, a) d = Reshape (c, s) e = Split <axis=1, num_outputs=1> (d)
y = Cast <to=1> (e) }""".replace("(float[2,3] x)", "(float[2,3] x, int64[2] s)")

X = np.random.default_rng(0).standard_normal((2, 3)).astype(np.float32)


def rounded(x: np.ndarray) -> np.ndarray:
    """To the nearest bfloat16, ties to even."""
    bits = np.asarray(x, np.float32).view(np.uint32)
    return ((bits + 0x7FFF + ((bits >> 16) & 1)) & np.uint32(0xFFFF0000)).view(np.float32)


@pytest.mark.parametrize("optimize", [False, True])
def test_every_result_is_rounded(optimize: bool) -> None:
    proto = onnx.parser.parse_model(TEXT)
    onnx.checker.check_model(proto, full_check=True)
    session = Session(Model(proto), optimize=optimize)
    y = session.run({"x": X, "s": np.array([2, 3])})["y"]
    a = rounded(X)
    np.testing.assert_array_equal(y, rounded(rounded(a + a) * a))
    assert (y != 2 * X * X).any()


def test_the_model_itself_is_left_alone() -> None:
    proto = onnx.parser.parse_model(TEXT)
    before = proto.SerializeToString()
    assert mentions(proto, [BFLOAT16]) and not mentions(proto, [FLOAT16])
    wide = with_float32_nodes(proto, [BFLOAT16])
    onnx.checker.check_model(wide, full_check=True)
    assert proto.SerializeToString() == before
    assert [n.op_type for n in wide.graph.node if n.op_type != "Cast"] == ["Add", "Mul", "Reshape", "Split"]


def test_another_refusal_is_told_as_it_is() -> None:
    text = """<ir_version: 10, opset_import: ["": 22, "odd": 1]>
    g (float[2] x) => (float[2] y) { y = odd.Op(x) }"""
    with pytest.raises(InputError, match="ONNX Runtime refuses it"):
        Session(Model(onnx.parser.parse_model(text)))
    text = text.replace("y = ", "a = Cast <to=16> (x) b = Cast <to=1> (a) y = ")
    with pytest.raises(InputError, match="ONNX Runtime refuses it"):
        Session(Model(onnx.parser.parse_model(text)))


def test_float16_between_two_nodes_is_rounded_and_overflows() -> None:
    """ONNX Runtime alone keeps it float32: 300 * 300 / 300 would be 300."""
    text = """<ir_version: 10, opset_import: ["": 22]> g (float[3] x) => (float[3] y) {
    a = Cast <to=10> (x) b = Mul (a, a) c = Div (b, a) y = Cast <to=1> (c) }"""
    model = Model(onnx.parser.parse_model(text))
    x = np.array([1.7, 300, 0.0123], np.float32)
    a = x.astype(np.float16)
    with np.errstate(over="ignore"):
        wanted = (a * a) / a
    assert np.isinf(wanted[1])
    np.testing.assert_array_equal(Session(model).run({"x": x})["y"], wanted.astype(np.float32))
    assert np.isfinite(Session(model, optimize=True).run({"x": x})["y"]).all()
    text = text.replace("float[3] x", "float16[3] a").replace("a = Cast <to=10> (x)", "")
    small = Model(
        onnx.parser.parse_model(text.replace("float[3] y", "float16[3] c").replace("y = Cast <to=1> (c)", ""))
    )
    np.testing.assert_array_equal(Session(small).run({"a": a})["c"], wanted)


LEFT = [
    """g (float16[2] x, int64 n, bool c) => (float16[2] y) { y = Loop (n, c, x) <body = b
    (int64 i, bool go, float16[2] a) => (bool on, float16[2] z) { on = Identity (go) z = Neg (a) }> }""",
    "g (float16[2] x, int64 n, bool c) => (seq(float16[2]) y) { y = SequenceConstruct (x, x) }",
]


@pytest.mark.parametrize("text", LEFT)
def test_subgraphs_and_sequences_are_left_as_they_are(text: str) -> None:
    model = Model(onnx.parser.parse_model('<ir_version: 10, opset_import: ["": 22]> ' + text))
    x = np.array([1, 2], np.float16)
    y = np.asarray(Session(model).run({"x": x, "n": np.array(2), "c": np.array(True)})["y"])
    assert y.dtype == np.float16
    np.testing.assert_array_equal(y.reshape(-1)[:2], x)
