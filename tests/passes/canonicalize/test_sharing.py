"""share-constants, share-nodes, remove-dead, bind-initializers."""

from __future__ import annotations

from typing import Any

import numpy as np
import onnx
import pytest

from optc.models.model import Model
from optc.passes.base import Context, Pass
from optc.passes.canonicalize.bind_initializers import BindInitializers
from optc.passes.canonicalize.remove_dead import RemoveDead
from optc.passes.canonicalize.share_constants import ShareConstants
from optc.passes.canonicalize.share_nodes import ShareNodes


def test_share_constants(check: Any) -> None:
    before = """g (float[2] x) => (float[2] y) <float[2] a = {1,2}, float[2] b = {1,2}, float[2] c = {1,3}>
      { d = Mul(x, a)  e = Mul(d, b)  y = Mul(e, c) }"""
    after = """g (float[2] x) => (float[2] y) <float[2] a = {1,2}, float[2] c = {1,3}>
      { d = Mul(x, a)  e = Mul(d, a)  y = Mul(e, c) }"""
    check.rewrites(ShareConstants(), before, after)


@pytest.mark.parametrize(
    ("first", "second"),
    [
        (np.array([0.0], np.float32), np.array([-0.0], np.float32)),
        (np.array([0.0], np.float32), np.array([0], np.int32)),
        (np.array([1.0], np.float32), np.array([[1.0]], np.float32)),
    ],
)
def test_constants_that_differ_in_any_bit_stay(first: Any, second: Any) -> None:
    proto = onnx.parser.parse_model(
        '<ir_version: 10, opset_import: ["": 21]> g (float[2] x) => (float[2] y, float[2] z) '
        "{ y = CastLike(a, x)  z = CastLike(b, x) }"
    )
    for name, array in (("a", first), ("b", second)):
        proto.graph.initializer.append(onnx.numpy_helper.from_array(array, name))
    assert not ShareConstants().run(Model(proto), Context())


def test_nan_equals_itself_bit_for_bit() -> None:
    proto = onnx.parser.parse_model(
        """<ir_version: 10, opset_import: ["": 21]> g (float[2] x) => (float[2] y)
        { c = Mul(x, a)  y = Mul(c, b) }"""
    )
    for name in ("a", "b"):
        proto.graph.initializer.append(onnx.numpy_helper.from_array(np.array([np.nan, 1], np.float32), name))
    model = Model(proto)
    assert ShareConstants().run(model, Context())
    assert len(model.to_proto().graph.initializer) == 1


def test_an_overridable_constant_is_not_shared(check: Any) -> None:
    text = """g (float[2] x, float[2] a) => (float[2] y) <float[2] a = {1,2}, float[2] b = {1,2}>
      { d = Mul(x, a)  y = Mul(d, b) }"""
    check.leaves(ShareConstants(), text)


@pytest.mark.parametrize(
    ("before", "after"),
    [
        ("a = Relu(x)  b = Relu(x)  y = Add(a, b)", "a = Relu(x)  y = Add(a, a)"),
        ("a = Add(x, z)  b = Add(z, x)  y = Mul(a, b)", "a = Add(x, z)  y = Mul(a, a)"),
        ("a = Relu(x)  y = Relu(x)  z2 = Neg(a)  w = Add(z2, z)", "y = Relu(x)  z2 = Neg(y)  w = Add(z2, z)"),
        (
            "a, b = Split<axis = 0, num_outputs = 2>(x)  c, d = Split<axis = 0, num_outputs = 2>(x)  "
            "e = Concat<axis = 0>(c, b)  y = Add(e, z)",
            "a, b = Split<axis = 0, num_outputs = 2>(x)  e = Concat<axis = 0>(a, b)  y = Add(e, z)",
        ),
    ],
)
def test_share_nodes(check: Any, before: str, after: str) -> None:
    outputs = "float[2] y, float[2] w" if "w =" in before else "float[2] y"
    head = f"g (float[2] x, float[2] z) => ({outputs})"
    check.rewrites(ShareNodes(), f"{head} {{ {before} }}", f"{head} {{ {after} }}")


@pytest.mark.parametrize(
    "body",
    [
        "a = LeakyRelu<alpha = 0.1>(x)  b = LeakyRelu<alpha = 0.2>(x)  y = Add(a, b)",
        "a = Sub(x, z)  b = Sub(z, x)  y = Mul(a, b)",
        "a, m = Dropout(x)  b, n = Dropout(x)  c = Or(m, n)  d = Where(c, a, b)  y = Neg(d)",
    ],
)
def test_share_nodes_leaves(check: Any, body: str) -> None:
    check.leaves(ShareNodes(), f"g (float[2] x, float[2] z) => (float[2] y) {{ {body} }}")


def test_two_outputs_keep_their_nodes(check: Any) -> None:
    check.leaves(ShareNodes(), "g (float[2] x) => (float[2] y, float[2] z) { y = Relu(x)  z = Relu(x) }")


def test_random_nodes_are_not_shared() -> None:
    text = """<ir_version: 10, opset_import: ["": 21]> g (float[2] x) => (float[2] y)
      { a = RandomNormalLike(x)  b = RandomNormalLike(x)  y = Sub(a, b) }"""
    assert not ShareNodes().run(Model(onnx.parser.parse_model(text)), Context())


def test_nodes_of_other_domains_are_not_shared() -> None:
    text = """<ir_version: 10, opset_import: ["": 21, "my": 1]> g (float[2] x) => (float[2] y)
      { a = my.F(x)  b = my.F(x)  y = Sub(a, b) }"""
    assert not ShareNodes().run(Model(onnx.parser.parse_model(text)), Context())


def test_remove_dead(check: Any) -> None:
    before = """g (float[2] x, float[2] unused) => (float[2] y) <float[2] w = {1,2}, float[2] v = {3,4}>
      { a = Mul(x, w)  b = Neg(a)  y, m = Dropout(x) }"""
    after = "g (float[2] x, float[2] unused) => (float[2] y) { y = Dropout(x) }"
    check.rewrites(RemoveDead(), before, after)


def test_an_unused_initializer_alone_is_a_change(check: Any) -> None:
    before = "g (float[2] x) => (float[2] y) <float[2] v = {3,4}> { y = Neg(x) }"
    check.rewrites(RemoveDead(), before, "g (float[2] x) => (float[2] y) { y = Neg(x) }")


def test_an_optional_output_in_the_middle_gets_no_name(check: Any) -> None:
    before = """g (float[2,2] x, float[2] s, float[2] b) => (float[2,2] y, float[2,1] v)
      { y, m, v = LayerNormalization(x, s, b) }"""
    result = check.run(RemoveDead(), before)
    assert list(result.graph.node[0].output) == ["y", "", "v"]


def test_outputs_that_are_not_optional_stay(check: Any) -> None:
    text = "g (float[4] x) => (float[a] y) { b, c = Split<axis = 0, num_outputs = 2>(x)  y = Neg(b) }"
    check.leaves(RemoveDead(), text.replace("[a]", "[2]"))


def test_what_only_a_subgraph_reads_is_alive(check: Any) -> None:
    text = """g (bool c, float[2] x) => (float[2] y) <float[2] w = {1,2}> { a = Mul(x, w)
      y = If (c) <then_branch = t () => (float[2] p) { p = Neg(a) },
                  else_branch = e () => (float[2] q) { q = Abs(a) }> }"""
    check.leaves(RemoveDead(), text)


def test_dead_nodes_in_subgraphs_go(check: Any) -> None:
    before = """g (bool c, float[2] x) => (float[2] y) { a = Exp(x)
      y = If (c) <then_branch = t () => (float[2] p) { d = Neg(a)  p = Neg(x) },
                  else_branch = e () => (float[2] q) { q = Abs(x) }> }"""
    result = check.run(RemoveDead(), before)
    assert [len(a.g.node) for a in result.graph.node[-1].attribute] == [1, 1]


def test_dead_nodes_of_other_domains_stay() -> None:
    text = """<ir_version: 10, opset_import: ["": 21, "my": 1]> g (float[2] x) => (float[2] y)
      { a = my.Log(x)  y = Neg(x) }"""
    assert not RemoveDead().run(Model(onnx.parser.parse_model(text)), Context())


def test_bind_initializers(check: Any) -> None:
    body = "<float[2] w = {1,2}> { y = Mul(x, w) }"
    check.rewrites(
        BindInitializers(),
        f"g (float[2] x, float[2] w) => (float[2] y) {body}",
        f"g (float[2] x) => (float[2] y) {body}",
    )
    check.leaves(BindInitializers(), f"g (float[2] x) => (float[2] y) {body}")


def test_bind_initializers_raises_the_ir_version() -> None:
    text = """<ir_version: 3, opset_import: ["": 8]> g (float[2] x, float[2] w) => (float[2] y)
      <float[2] w = {1,2}> { y = Mul(x, w) }"""
    model = Model(onnx.parser.parse_model(text))
    assert BindInitializers().run(model, Context())
    proto = model.to_proto()
    assert proto.ir_version == 4
    onnx.checker.check_model(proto)


@pytest.mark.parametrize("p", [ShareConstants(), ShareNodes(), RemoveDead()])
def test_nothing_to_do(check: Any, p: Pass) -> None:
    check.leaves(p, "g (float[2] x) => (float[2] y) <float[2] w = {1,2}> { a = Mul(x, w)  y = Neg(a) }")
