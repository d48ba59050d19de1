from __future__ import annotations

from typing import Any

import numpy as np
import onnx

from optc.models.model import Model
from optc.passes.base import Context
from optc.passes.canonicalize.fold_shapes import FoldShapes


def reshape_target(proto: onnx.ModelProto) -> list[int] | None:
    """The constant second input of the model's one Reshape."""
    (node,) = (n for n in proto.graph.node if n.op_type == "Reshape")
    found = [t for t in proto.graph.initializer if t.name == node.input[1]]
    values: list[int] | None = onnx.numpy_helper.to_array(found[0]).tolist() if found else None
    return values


def folded(proto: onnx.ModelProto) -> onnx.ModelProto:
    model = Model(proto)
    FoldShapes().run(model, Context())
    return model.to_proto()


def test_before_and_after(check: Any) -> None:
    before = "g (float[2,3] x, int64[2] z) => (int64[2] y) { s = Shape(x)  y = Add(s, z) }"
    after = "g (float[2,3] x, int64[2] z) => (int64[2] y) <int64[2] s = {2,3}> { y = Add(s, z) }"
    check.rewrites(FoldShapes(), before, after)


def test_the_free_dimension_is_copied(check: Any) -> None:
    text = """g (float[N,3,4] x) => (float[N,12] y)
      <int64[1] one = {1}, int64[1] two = {2}, int64[1] zero = {0}>
      { s = Shape(x)  n = Gather(s, zero)  a = Gather(s, one)  b = Gather(s, two)  c = Mul(a, b)
        t = Concat<axis = 0>(n, c)  y = Reshape(x, t) }"""
    assert reshape_target(check.run(FoldShapes(), text)) == [0, 12]


def test_one_unknown_dimension_is_left_to_the_reshape(check: Any) -> None:
    text = """g (float[N,M,4] x, int64[1] k) => (float[a,4] y) <int64[1] four = {4}>
      { t = Concat<axis = 0>(k, four)  y = Reshape(x, t) }"""
    result = folded(check.parse(text))
    assert reshape_target(result) == [-1, 4]


def test_two_unknown_dimensions_stay(check: Any) -> None:
    text = """g (float[2,2,4] x, int64[2] k) => (float[a,b,4] y) <int64[1] four = {4}>
      { o = Abs(k)  t = Concat<axis = 0>(o, four)  y = Reshape(x, t) }"""
    assert reshape_target(folded(check.parse(text))) is None


def test_a_question_mark_names_no_dimension() -> None:
    text = """<ir_version: 10, opset_import: ["": 21]> g (float[Q,R] x, float[Q,R] z) => (float[a,b] y)
      { s = Shape(z)  y = Reshape(x, s) }"""
    proto = onnx.parser.parse_model(text)
    for value in proto.graph.input:
        for dim in value.type.tensor_type.shape.dim:
            dim.dim_param = "?"
    assert reshape_target(folded(proto)) is None


def test_a_shape_that_is_an_output_stays(check: Any) -> None:
    check.leaves(FoldShapes(), "g (float[2,3] x) => (int64[2] y, int64[2] z) { y = Shape(x)  z = Neg(y) }")


def test_a_reshape_that_takes_zero_for_zero_stays(check: Any) -> None:
    text = """g (float[0,3] x, int64[1] k) => (float[a,b] y) <int64[1] zero = {0}>
      { o = Abs(k)  t = Concat<axis = 0>(o, zero)  y = Reshape<allowzero = 1>(x, t) }"""
    assert reshape_target(folded(check.parse(text))) is None


def test_zero_is_not_written_where_it_would_mean_copy(check: Any) -> None:
    text = """g (float[0,3] x, float[3,0] z) => (float[3,0] y) {
      s = Shape(z)  y = Reshape<allowzero = 1>(x, s) }"""
    proto = check.parse(text)
    out = folded(proto)
    feeds = {"x": np.zeros((0, 3), np.float32), "z": np.zeros((3, 0), np.float32)}
    from optc.models.session import Session

    assert Session(Model(out)).run(feeds)["y"].shape == (3, 0)
