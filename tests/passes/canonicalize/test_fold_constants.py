from __future__ import annotations

from typing import Any

import numpy as np
import onnx
import pytest

from optc.models.errors import InputError
from optc.models.model import Model
from optc.passes.base import Context
from optc.passes.canonicalize.fold_constants import FOLDED_BYTES, FoldConstants


def test_before_and_after(check: Any) -> None:
    before = """g (float[2,2] x) => (float[2,2] y) <float[2] a = {1,2}>
      { one = Constant<value = float {1}>()  b = Add(a, one)  axes = Constant<value_ints = [0]>()
        c = Unsqueeze(b, axes)  y = Add(x, c) }"""
    after = "g (float[2,2] x) => (float[2,2] y) <float[1,2] c = {2,3}> { y = Add(x, c) }"
    check.rewrites(FoldConstants(), before, after)


@pytest.mark.parametrize(
    "constant", ["value_float = 2.0", "value_int = 2", "value_floats = [2.0]", "value_ints = [2]"]
)
def test_every_form_of_constant(check: Any, constant: str) -> None:
    kind = "float" if "float" in constant else "int64"
    text = f"g ({kind}[2] x) => ({kind}[2] y) {{ c = Constant<{constant}>()  y = Add(x, c) }}"
    result = check.run(FoldConstants(), text)
    assert [n.op_type for n in result.graph.node] == ["Add"]


@pytest.mark.parametrize(
    "body",
    [
        "y = RandomNormalLike(c)",
        "q = DequantizeLinear(i, s)  y = Neg(q)",  # a quantized weight is not a constant
        "d = Add(c, x)  y = Neg(d)",
        "y = Neg(c)",  # a graph output keeps its node
        "y = Constant<value = float[2] {1,2}>()",
    ],
)
def test_leaves(body: str) -> None:
    text = f"""<ir_version: 10, opset_import: ["": 21]> g (float[2] x) => (float[2] y)
      <float[2] c = {{1,2}}, int8[2] i = {{1,2}}, float s = {{0.5}}> {{ {body} }}"""
    proto = onnx.shape_inference.infer_shapes(onnx.parser.parse_model(text))
    model, context = Model(proto), Context()
    assert not FoldConstants().run(model, context)
    model.changed = True
    assert [n.op_type for n in model.to_proto().graph.node] == [n.op_type for n in proto.graph.node]
    assert not context.declined


def test_overridable_initializers_are_no_constants(check: Any) -> None:
    text = "g (float[2] x, float[2] c) => (float[2] y) <float[2] c = {1,2}> { n = Neg(c)  y = Add(x, n) }"
    check.leaves(FoldConstants(), text)


BIG = """g (float[1000] x) => (float[1000] y) <int64[1] n = {1000}, float[200] w>
  { c = ConstantOfShape<value = float[1] {2}>(n)  d = Sqrt(c)  z = Add(x, d)
    s = ReduceSum(w)  y = Add(z, s) }"""


def big() -> onnx.ModelProto:
    proto = onnx.parser.parse_model(
        '<ir_version: 10, opset_import: ["": 21]>' + BIG.replace(", float[200] w", "")
    )
    proto.graph.initializer.append(onnx.numpy_helper.from_array(np.ones(200, np.float32), "w"))
    return onnx.shape_inference.infer_shapes(proto, data_prop=True)


def test_never_past_the_limit(check: Any) -> None:
    proto = big()
    result = check.run(FoldConstants(), proto)
    assert [n.op_type for n in result.graph.node] == ["ConstantOfShape", "Sqrt", "Add", "Add"]
    assert result.ByteSize() <= 1.1 * proto.ByteSize()
    assert "fold_limit=1.1" in check.declined[0].reason


def test_the_limit_can_be_raised_and_is_counted_once(check: Any) -> None:
    proto = big()
    result = check.run(FoldConstants(fold_limit=20.0), proto)
    assert [n.op_type for n in result.graph.node] == ["Add", "Add"]
    added = {p.key: p.value for p in result.metadata_props}[FOLDED_BYTES]
    assert 0 < int(added) <= 4100


def test_what_earlier_runs_added_counts(check: Any) -> None:
    proto = big()
    assert len(check.run(FoldConstants(fold_limit=8.0), proto).graph.node) == 2
    proto = big()
    proto.metadata_props.add(key=FOLDED_BYTES, value="700")
    assert len(check.run(FoldConstants(fold_limit=8.0), proto).graph.node) == 4


def test_a_large_value_that_only_folding_needs_is_no_growth(check: Any) -> None:
    text = """g (float[2] x) => (float[2] y) <int64[1] n = {1000}>
      { c = ConstantOfShape<value = float[1] {2}>(n)  s = ReduceSum<keepdims = 0>(c)  y = Add(x, s) }"""
    check.rewrites(
        FoldConstants(), text, "g (float[2] x) => (float[2] y) <float s = {2000}> { y = Add(x, s) }"
    )


def test_a_value_of_unknown_size_that_could_be_any_waits() -> None:
    text = """<ir_version: 10, opset_import: ["": 21]> g (float[a] x) => (float[a] y)
      <int64[1] n = {9000000000}> { c = ConstantOfShape(n)  y = Add(x, c) }"""
    context = Context()
    assert not FoldConstants().run(Model(onnx.parser.parse_model(text)), context)
    assert not context.declined, "it tried"


def test_what_cannot_be_evaluated_is_declined() -> None:
    text = """<ir_version: 10, opset_import: ["": 21]> g (float[2] x) => (float[2] y)
      <float[2] c = {1,2}, int64[1] i = {7}> { d = Gather(c, i)  e = Neg(c)  s = Add(x, d)  y = Add(s, e) }"""
    model, context = Model(onnx.shape_inference.infer_shapes(onnx.parser.parse_model(text))), Context()
    assert FoldConstants().run(model, context)
    assert [n.op_type for n in model.to_proto().graph.node] == ["Gather", "Add", "Add"]
    assert context.declined[0].reason == "ONNX Runtime cannot evaluate it"


def test_constants_in_subgraphs(check: Any) -> None:
    text = """g (bool c, float[2] x) => (float[2] y) {
      y = If (c) <then_branch = t () => (float[2] p) {
                    k = Constant<value = float {2}>()  m = Neg(k)  p = Mul(x, m) },
                  else_branch = e () => (float[2] q) { q = Neg(x) }> }"""
    result = check.run(FoldConstants(), text)
    branch = result.graph.node[0].attribute[0].g
    assert [n.op_type for n in branch.node] == ["Mul"]


@pytest.mark.parametrize("limit", [0.5, float("nan")])
def test_a_limit_below_one_is_an_error(limit: float) -> None:
    with pytest.raises(InputError, match="below 1"):
        FoldConstants(limit)
