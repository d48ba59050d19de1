"""What scales go through, and what blocks them: between two layers of ranges 16, 1 and 1, 1."""

from __future__ import annotations

from typing import Any

import numpy as np
import onnx
import pytest

from optc.passes.equalize.equalize import Equalize

PASS = Equalize()


def between(body: str, constants: str = "", out: str = "", last: str = "y = Conv(r, v)") -> str:
    """From `a`, float[1,2,4], to `r`."""
    rank = "1,C,L" if "Conv" in last or "[0,2,1]" in body else "1,C"
    ones = ",".join(["1"] * 24)
    return f"""g (float[1,1,4] x) => (float[{rank}] y{out}) <
        float[2,1,1] w = {{16,1}}, float[1,2,1] v = {{1,1}}, float[8,3] matrix = {{{ones}}},
        float[2,3] two = {{1,1,1,1,1,1}} {constants}> {{ a = Conv(x, w) {body} {last} }}"""


FLAT = "y = MatMul(r, matrix)"
ROW = "y = MatMul(r, two)"


@pytest.mark.parametrize(
    ("body", "constants", "last"),
    [
        ("r = Relu(a)", "", ""),
        ("r = LeakyRelu<alpha = 0.3>(a)", "", ""),
        ("r = PRelu(a, s)", ", float[2,1] s = {0.5,-1}", ""),
        ("b = Abs(a) r = Neg(b)", "", ""),
        ("b = Identity(a) r = Dropout(b)", "", ""),
        ("r = Clip(a, z)", ", float z = {0}", ""),
        ("r = Max(a, s)", ", float[2,1] s = {1,-1}", ""),
        ("r = Min(s, a)", ", float[1,2,1] s = {1,-1}", ""),
        ("b = Sub(s, a) r = Max(b, z)", ", float[2,1] s = {1,-1}, float z = {0}", ""),
        ("b = Add(a, s) r = Add(b, z)", ", float[2,1] s = {1,-1}, float[1,1,4] z = {0,0,0,0}", ""),
        ("b = Mul(a, s) r = Div(b, s)", ", float[2,1] s = {2,3}", ""),
        ("b = Relu(a) r = Sum(a, b, a)", "", ""),
        ("r = MaxPool<kernel_shape=[2], pads=[1,1]>(a)", "", ""),
        ("r = AveragePool<kernel_shape=[2], pads=[1,1], count_include_pad=1>(a)", "", ""),
        ("r = Pad(a, p)", ", int64[6] p = {0,0,1,0,0,1}", ""),
        ('r = Pad<mode = "edge">(a, p)', ", int64[6] p = {0,0,1,0,0,1}", ""),
        ("r = Resize(a, , s)", ", float[3] s = {1,1,2}", ""),
        ("r = Slice(a, s, e, i)", ", int64[1] s = {1}, int64[1] e = {3}, int64[1] i = {2}", ""),
        ("b, d = Split<axis=2, num_outputs=2>(a) r = Add(b, d)", "", ""),
        ("r = Concat<axis=2>(a, a)", "", ""),
        ("b = Transpose<perm=[2,1,0]>(a) r = Transpose<perm=[2,1,0]>(b)", "", ""),
        ("b = Unsqueeze(a, i) r = Squeeze(b, i)", ", int64[1] i = {3}", ""),
        ("s = Shape(a) r = Reshape(a, k) q = Cast<to=1>(s)", ", int64[3] k = {0,2,4}", ""),
        ("b = GlobalAveragePool(a) r = Flatten(b)", "", ROW),
        ("r = GlobalMaxPool(a)", "", ""),
        ("r = ReduceMean<keepdims=0>(a, i)", ", int64[1] i = {2}", ROW),
        ("r = Flatten(a)", "", FLAT),
        ("r = Reshape(a, k)", ", int64[2] k = {1,8}", FLAT),
        ("r = Transpose<perm=[0,2,1]>(a)", "", ROW),
        ("b = Flatten(a)", "", "y = Gemm<transB=1, alpha=2.0, beta=3.0>(b, m, c)"),
    ],
)
def test_scales_go_through(check: Any, body: str, constants: str, last: str) -> None:
    constants += ", float[3,8] m = {1,1,1,1,1,1,1,1,1,1,1,1,1,1,1,1,1,1,1,1,1,1,1,1}, float[1,3] c = {1,2,3}"
    result = check.run(PASS, between(body, constants, last=last or "y = Conv(r, v)"))
    assert check.changed, check.declined
    (weight,) = [t for t in result.graph.initializer if t.name == "w"]
    np.testing.assert_allclose(onnx.numpy_helper.to_array(weight).ravel(), [8, 2], rtol=1e-2)


@pytest.mark.parametrize(
    ("body", "constants", "out", "reason"),
    [
        ("r = Relu(a)", "", ", float[1,2,4] r", "it is an output of the model"),
        ("r = Sigmoid(a)", "", "", "Sigmoid cannot be followed"),
        ("r = Relu(a) z = Sigmoid(r)", "", ", float[1,2,4] z", "Sigmoid cannot be followed"),
        ("r = Clip(a, l, h)", ", float l = {0}, float h = {6}", "", "Clip: it has a bound of 6"),
        ("r = Clip(a, l)", ", float l = {-1}", "", "Clip: it has a bound of -1"),
        ("e = Exp(k) r = Clip(a, e)", ", float k = {0}", "", "Clip: its bounds are no constants"),
        ("r = Softmax<axis=2>(a)", "", "", "Softmax cannot be followed"),
        ("r = Mul(a, a)", "", "", "Mul: it multiplies two activations"),
        ("r = Div(a, a)", "", "", "Div takes no scales"),
        ("r = Add(a, x)", "", "", "Add repeats an operand"),
        ("r = Add(a, s)", ", float s = {2}", "", "Add repeats an operand"),
        ("r = Max(a, s)", ", float[1,1,4] s = {1,2,3,4}", "", "Max repeats an operand"),
        ("b = Sigmoid(a) r = Add(a, b)", "", "", "Sigmoid cannot be followed"),
        ("r = Concat<axis=2>(a, s)", ", float[1,2,1] s = {1,2}", "", "a constant of Concat meets"),
        ("r = Pad(a, p, c)", ", int64[6] p = {0,0,1,0,0,1}, float c = {1}", "", "pads with other values"),
        ("b = ReduceMean(a, i) r = Sub(a, b)", ", int64[1] i = {1}", "", "ReduceMean reduces over it"),
        ("r = Dropout(a, q, t)", ", float q = {0}, bool t = {1}", "", "Dropout: it drops values"),
        ("r = BatchNormalization(a, s, s, s, s)", ", float[2] s = {1,2}", "", "BatchNormalization"),
        ("r = MatMul(a, m)", ", float[4,4] m = {1,1,1,1,1,1,1,1,1,1,1,1,1,1,1,1}", "", "MatMul takes no"),
        ("t = Transpose<perm=[0,2,1]>(a) b = MatMul(a, t) r = Relu(a)", "", "", "two activations"),
        ("e = Exp(v) r = Relu(a) z = Conv(r, e)", "", ", float z", "Conv: its weight is no float32"),
        ("b = Reshape(a, k) r = Reshape(b, l)", ", int64[2] k = {2,4}, int64[3] l = {1,2,4}", "", ""),
    ],
)
def test_what_blocks_says_why(check: Any, body: str, constants: str, out: str, reason: str) -> None:
    result = check.run(PASS, between(body, constants, out))
    (weight,) = [t for t in result.graph.initializer if t.name == "w"]
    changed = onnx.numpy_helper.to_array(weight).ravel().tolist() != [16, 1]
    if not reason:
        assert changed
        return
    assert not changed
    assert any(d.where == "a (Conv)" and reason in d.reason for d in check.declined), check.declined
