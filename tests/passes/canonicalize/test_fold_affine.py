from __future__ import annotations

from typing import Any

import numpy as np
import onnx
import pytest

from optc.models.model import Model
from optc.passes.base import Context
from optc.passes.canonicalize.fold_affine import FoldAffine

BN = "float[2] s = {2,4}, float[2] b = {1,0}, float[2] m = {0,1}, float[2] v = {0,3}"
"""Scales 2 and 2, shifts 1 and -2, with epsilon 1."""


def ops(proto: onnx.ModelProto) -> list[str]:
    return [n.op_type for n in proto.graph.node]


def test_batch_norm_into_conv(check: Any) -> None:
    before = f"""g (float[1,1,3] x) => (float[1,2,3] y) <float[2,1,1] w = {{1,3}}, {BN}>
      {{ c = Conv(x, w)  y = BatchNormalization<epsilon = 1.0>(c, s, b, m, v) }}"""
    after = """g (float[1,1,3] x) => (float[1,2,3] y) <float[2,1,1] w = {2,6}, float[2] c_bias = {1,-2}>
      { y = Conv(x, w, c_bias) }"""
    check.rewrites(FoldAffine(), before, after)


@pytest.mark.parametrize(
    ("line", "weights", "bias"),
    [
        ("y = Mul(c, k)", [2, -3], [20, -20]),
        ("y = Mul(k, c)", [2, -3], [20, -20]),
        ("y = Div(c, k)", [0.5, -3], [5, -20]),
        ("y = Add(c, k)", [1, 3], [12, 19]),
        ("y = Add(k, c)", [1, 3], [12, 19]),
        ("y = Sub(c, k)", [1, 3], [8, 21]),
        ("y = Sub(k, c)", [-1, -3], [-8, -21]),
        ("y = Mul(c, one_number)", [4, 12], [40, 80]),
        ("y = Neg(c)", [-1, -3], [-10, -20]),
        ("d = Mul(c, k)  e = Add(d, k)  y = Relu(e)", [2, -3], [22, -21]),
    ],
)
def test_arithmetic_into_conv(check: Any, line: str, weights: list[float], bias: list[float]) -> None:
    before = f"""g (float[1,1,3] x) => (float[1,2,3] y) <float[2,1,1] w = {{1,3}}, float[2] b = {{10,20}},
      float[2,1] k = {{2,-1}}, float one_number = {{4}}> {{ c = Conv(x, w, b)  {line} }}"""
    text = ",".join(map(str, weights)), ",".join(map(str, bias))
    tail = "e = Conv(x, w, b)  y = Relu(e)" if "Relu" in line else "y = Conv(x, w, b)"
    after = f"""g (float[1,1,3] x) => (float[1,2,3] y)
      <float[2,1,1] w = {{{text[0]}}}, float[2] b = {{{text[1]}}}> {{ {tail} }}"""
    check.rewrites(FoldAffine(), before, after)


def random_constants(seed: int = 0, **shapes: tuple[int, ...]) -> list[onnx.TensorProto]:
    rng = np.random.default_rng(seed)
    arrays = {name: rng.standard_normal(shape).astype(np.float32) for name, shape in shapes.items()}
    if "v" in arrays:
        arrays["v"] = np.abs(arrays["v"]) + np.float32(0.1)
    return [onnx.numpy_helper.from_array(array, name) for name, array in arrays.items()]


@pytest.mark.parametrize(
    ("text", "shapes", "left"),
    [
        (
            "g (float[2,4,5,5] x) => (float[2,6,a,b] y) { c = Conv<group = 2>(x, w)  "
            "y = BatchNormalization(c, s, b, m, v) }",
            {"w": (6, 2, 3, 3), "s": (6,), "b": (6,), "m": (6,), "v": (6,)},
            ["Conv"],
        ),
        (
            "g (float[2,4,5,5] x) => (float[2,6,a,b] y) { "
            "c = ConvTranspose<group = 2, strides = [2, 2]>(x, w)  y = BatchNormalization(c, s, b, m, v) }",
            {"w": (4, 3, 3, 3), "s": (6,), "b": (6,), "m": (6,), "v": (6,)},
            ["ConvTranspose"],
        ),
        (
            "g (float[3,4] x) => (float[3,6] y) { c = Gemm<transB = 1, alpha = 0.5, beta = 3.0>(x, w, h)  "
            "d = Mul(c, s)  y = Add(d, b) }",
            {"w": (6, 4), "h": (6,), "s": (6,), "b": (1, 6)},
            ["Gemm"],
        ),
        (
            "g (float[3,4] x) => (float[3,6] y) { c = Gemm(x, w)  y = BatchNormalization(c, s, b, m, v) }",
            {"w": (4, 6), "s": (6,), "b": (6,), "m": (6,), "v": (6,)},
            ["Gemm"],
        ),
        (
            "g (float[2,3,4] x) => (float[2,3,6] y) { c = MatMul(x, w)  y = Mul(c, s) }",
            {"w": (4, 6), "s": (6,)},
            ["MatMul"],
        ),
        (
            "g (float[2,6,4] x) => (float[2,6,4] y) { c = BatchNormalization(x, s, b, m, v)  d = Mul(c, k)  "
            "y = Add(d, k) }",
            {"k": (6, 1), "s": (6,), "b": (6,), "m": (6,), "v": (6,)},
            ["BatchNormalization"],
        ),
        (
            "g (float[2,6,4] x) => (float[2,6,4] y) { "
            "a = Mul(x, k)  c = Mul(h, a)  d = Add(c, k)  y = Sub(d, h) }",
            {"k": (6, 1), "h": (4,)},
            ["Mul", "Mul", "Add", "Sub"],  # merged, they would be larger than both
        ),
        (
            "g (float[2,6,4] x) => (float[2,6,4] y) { "
            "a = Mul(x, k)  c = Div(a, h)  d = Add(c, k)  y = Sub(d, k) }",
            {"k": (6, 1), "h": (1, 1)},
            ["Mul", "Add"],
        ),
    ],
)
def test_every_operator_that_takes_a_scale(
    check: Any, text: str, shapes: dict[str, tuple[int, ...]], left: list[str]
) -> None:
    proto = onnx.parser.parse_model('<ir_version: 10, opset_import: ["": 21]> ' + text)
    proto.graph.initializer.extend(random_constants(**shapes))
    result = check.run(FoldAffine(), onnx.shape_inference.infer_shapes(proto))
    assert ops(result) == left


@pytest.mark.parametrize(
    "body",
    [
        "c = Conv(x, w)  y = Mul(c, along)",  # varies along the spatial axis
        "c = Conv(x, w)  y = Add(c, x2)",  # no constant
        "c = Conv(x, w)  y = Div(k, c)",  # not affine
        "c = Conv(x, w)  y = Mul(c, inf)",
        "c = Conv(x, w)  d = Relu(c)  y = Mul(d, k)",
        "c = Conv(x, w)  d = Mul(c, k)  e = Relu(c)  y = Add(d, e)",  # c is read twice
        "c = Conv(x, wide)  y = Mul(c, high)",  # widens the batch
        "c = MatMul(x, square)  y = Add(c, k)",  # a MatMul has no bias
        "f = Flatten(x)  c = MatMul(f, square)  y = BatchNormalization(c, v, v, v, v)",
    ],
)
def test_leaves_what_is_no_scale_of_a_channel(check: Any, body: str) -> None:
    dims = "a,b" if "Flatten" in body else "a,b,c"
    check.leaves(
        FoldAffine(),
        f"""g (float[2,1,3] x, float[2,2,3] x2) => (float[{dims}] y) <float[2,1,1] w = {{1,2}},
        float[1,1,1] wide = {{1}}, float[2,1,3] high = {{1,2,3,4,5,6}}, float[2,1] k = {{1,2}},
        float[3] along = {{1,2,3}}, float[3] v = {{1,2,3}}, float inf = {{inf}},
        float[3,3] square = {{1,2,3,4,5,6,7,8,9}}>
        {{ {body} }}""",
    )


def test_a_result_that_is_an_output_stays(check: Any) -> None:
    text = """g (float[1,1,3] x) => (float[1,2,3] c, float[1,2,3] y) <float[2,1,1] w = {1,2}, float k = {2}>
      { c = Conv(x, w)  y = Mul(c, k) }"""
    check.leaves(FoldAffine(), text)


def test_training_mode_stays() -> None:
    text = f"""<ir_version: 10, opset_import: ["": 21]> g (float[2,2,3] x) => (float[2,2,3] y)
      <float[2,2,1] w = {{1,2,3,4}}, {BN}>
      {{ c = Conv(x, w)  y, m2, v2 = BatchNormalization<training_mode = 1>(c, s, b, m, v) }}"""
    assert not FoldAffine().run(Model(onnx.parser.parse_model(text)), Context())


def shared(size: int) -> onnx.ModelProto:
    text = """<ir_version: 10, opset_import: ["": 21]> g (float[1,C,3] x) => (float[1,C,3] y, float[1,C,3] z)
      <float k = {2}> { c = Conv(x, w)  y = Mul(c, k)  z = Conv(x, w) }"""
    proto = onnx.parser.parse_model(text.replace("C,3", f"{size},3"))
    proto.graph.initializer.extend(random_constants(w=(size, size, 1)))
    return onnx.shape_inference.infer_shapes(proto)


def test_a_small_shared_weight_is_copied(check: Any) -> None:
    result = check.run(FoldAffine(), shared(2))
    assert ops(result) == ["Conv", "Conv"]
    assert len({n.input[1] for n in result.graph.node}) == 2


def test_a_large_shared_weight_is_declined(check: Any) -> None:
    result = check.run(FoldAffine(), shared(32))
    assert ops(result) == ["Conv", "Mul", "Conv"]
    assert [d.reason for d in check.declined] == ["the weight 'w' is shared, folding would copy it"]


def test_overflow_is_declined(check: Any) -> None:
    text = """g (float[1,1,3] x) => (float[1,1,3] y) <float[1,1,1] w = {1e30}, float tiny = {1e-30},
      float k = {1e20}>
      { s = Mul(tiny, x)  c = Conv(s, w)  y = Mul(c, k) }"""
    check.leaves(FoldAffine(), text)
    assert "overflow" in check.declined[0].reason


def test_a_quantized_weight_stays(check: Any) -> None:
    text = f"""g (float[1,1,3] x) => (float[1,2,3] y) <int8[2,1,1] q = {{1,3}}, float z = {{0.5}}, {BN}>
      {{ w = DequantizeLinear(q, z)
         c = Conv(x, w)  y = BatchNormalization<epsilon = 1.0>(c, s, b, m, v) }}"""
    check.leaves(FoldAffine(), text)


def test_half_precision_is_rounded_once() -> None:
    text = """<ir_version: 10, opset_import: ["": 21]> g (float16[1,1,3] x) => (float16[1,1,3] y)
      { c = Conv(x, w)  d = Mul(c, k)  y = Mul(d, k) }"""
    proto = onnx.parser.parse_model(text)
    for name, value in (("w", [[[0.1]]]), ("k", 3.3)):
        proto.graph.initializer.append(onnx.numpy_helper.from_array(np.array(value, np.float16), name))
    model = Model(onnx.shape_inference.infer_shapes(proto))
    assert FoldAffine().run(model, Context())
    (weight,) = (onnx.numpy_helper.to_array(t) for t in model.to_proto().graph.initializer)
    k = np.float64(np.float16(3.3))
    assert weight.dtype == np.float16
    assert weight.item() == np.float16(np.float16(np.float64(np.float16(0.1)) * k) * k)
