from __future__ import annotations

from typing import Any

import numpy as np
import onnx
import pytest

from optc.models.model import Model
from optc.models.session import Session
from optc.passes.base import Context
from optc.passes.canonicalize.remove_noops import RemoveNoops

AFTER = "g (float[N,3,4] x) => (float[N,3,4] y) { a = Relu(x)  y = Neg(a) }"

NOOPS = {
    "identity": "b = Identity(a)",
    "dropout": "b = Dropout(a)",
    "dropout with a ratio": "b = Dropout(a, ratio, no)",
    "reshape": "b = Reshape(a, same)",
    "expand": "b = Expand(a, ones)",
    "tile": "b = Tile(a, ones)",
    "transpose": "b = Transpose<perm = [0, 1, 2]>(a)",
    "cast": "b = Cast<to = 1>(a)",
    "pad": "b = Pad(a, zeros6)",
    "slice": "b = Slice(a, from, to, axes)",
    "resize": "b = Resize(a, , scales)",
    "concat": "b = Concat<axis = 1>(a)",
    "sum": "b = Sum(a)",
    "max": "b = Max(a)",
    "split": "b = Split<axis = 1, num_outputs = 1>(a)",
    "add 0": "b = Add(a, zero)",
    "0 added": "b = Add(zero, a)",
    "subtract zeros": "b = Sub(a, zeros)",
    "multiply by 1": "b = Mul(one, a)",
    "divide by 1": "b = Div(a, one)",
    "first power": "b = Pow(a, one)",
}

CONSTANTS = """float ratio = {0.5}, bool no = {0}, int64[3] same = {0,3,-1}, int64[3] ones = {1,1,1},
int64[6] zeros6 = {0,0,0,0,0,0}, int64[1] from = {0}, int64[1] to = {9223372036854775807},
int64[1] axes = {1}, float[3] scales = {1,1,1}, float zero = {0},
float[3,4] zeros = {0,0,0,0,0,0,0,0,0,0,0,0},
float one = {1}"""


@pytest.mark.parametrize("line", NOOPS.values(), ids=NOOPS.keys())
def test_before_and_after(check: Any, line: str) -> None:
    before = f"g (float[N,3,4] x) => (float[N,3,4] y) <{CONSTANTS}> {{ a = Relu(x)  {line}  y = Neg(b) }}"
    check.rewrites(RemoveNoops(), before, AFTER)


@pytest.mark.parametrize(
    "line",
    [
        "y = Mul(x, zero)",  # 0 * NaN is NaN
        "y = Sub(one, x)",
        "y = Sub(zero, x)",
        "y = Div(one, x)",
        "y = Add(x, wide)",  # widens x
        "y = Transpose<perm = [1, 0]>(x)",
        "y = Slice(x, from, to, axes)",
        "y = Cast<to = 10>(x)",
        "y = Reshape(x, shape)",
        "y = Resize(x, , scales)",
        "y = Dropout(x, half, yes)",
    ],
)
def test_leaves_what_does_something(line: str) -> None:
    kind = "float16" if "to = 10" in line else "float"
    inner = line.replace("(x", "(r").replace(" x)", " r)")
    text = f"""<ir_version: 10, opset_import: ["": 21]> g (float[1,4] x) => ({kind}[a,b] z)
    <float zero = {{0}}, float one = {{1}}, float[2,1] wide = {{0,0}}, int64[1] from = {{1}},
     bool yes = {{1}}, int64[1] to = {{9223372036854775807}}, int64[1] axes = {{1}}, int64[2] shape = {{4,1}},
     float half = {{0.5}}, float[2] scales = {{1,2}}>
    {{ r = Relu(x)  {inner}  z = Neg(y) }}"""
    proto = onnx.shape_inference.infer_shapes(onnx.parser.parse_model(text), data_prop=True)
    assert not RemoveNoops().run(Model(proto), Context())


def test_an_identity_between_an_input_and_an_output_stays(check: Any) -> None:
    check.leaves(RemoveNoops(), "g (float[2] x) => (float[2] y) { y = Identity(x) }")


def test_output_names_stay_where_one_value_is_two_outputs(check: Any) -> None:
    before = "g (float[2] x) => (float[2] y, float[2] z) { a = Relu(x)  y = Identity(a)  z = Identity(a) }"
    after = "g (float[2] x) => (float[2] y, float[2] z) { y = Relu(x)  z = Identity(y) }"
    check.rewrites(RemoveNoops(), before, after)


def test_a_mask_that_is_read_keeps_its_dropout(check: Any) -> None:
    text = "g (float[2] x) => (float[2] y, bool[2] m) { a, m = Dropout(x)  y = Neg(a) }"
    check.leaves(RemoveNoops(), text)


def test_an_overridable_zero_is_no_zero(check: Any) -> None:
    text = "g (float[2] x, float[2] z) => (float[2] y) <float[2] z = {0,0}> { a = Relu(x)  y = Add(a, z) }"
    check.leaves(RemoveNoops(), text)


def test_nan_and_infinity_pass_through() -> None:
    before = "g (float[4] x) => (float[4] y) <float one = {1}> { a = Mul(x, one)  y = Neg(a) }"
    model = Model(onnx.parser.parse_model('<ir_version: 10, opset_import: ["": 21]>' + before))
    assert RemoveNoops().run(model, Context())
    x = np.array([np.nan, np.inf, -np.inf, 1], np.float32)
    np.testing.assert_array_equal(Session(model).run({"x": x})["y"], -x)


def test_uses_in_subgraphs_follow(check: Any) -> None:
    before = """g (bool c, float[2] x) => (float[2] y) { r = Relu(x)  a = Identity(r)
      y = If (c) <then_branch = t () => (float[2] p) { p = Neg(a) },
                  else_branch = e () => (float[2] q) { i = Identity(a)  q = Abs(i) }> }"""
    after = """g (bool c, float[2] x) => (float[2] y) { r = Relu(x)
      y = If (c) <then_branch = t () => (float[2] p) { p = Neg(r) },
                  else_branch = e () => (float[2] q) { q = Abs(r) }> }"""
    check.rewrites(RemoveNoops(), before, after)


def test_an_output_of_a_branch_is_not_renamed_outside(check: Any) -> None:
    text = """g (bool c, float[2] x) => (float[2] y) { a = Relu(x)
      y = If (c) <then_branch = t () => (float[2] p) { p = Identity(a) },
                  else_branch = e () => (float[2] q) { q = Neg(a) }> }"""
    check.leaves(RemoveNoops(), text)
