from __future__ import annotations

from typing import Any

import numpy as np
import onnx
import pytest

from optc.models.errors import InputError
from optc.models.model import Model
from optc.models.zoo.registry import zoo_entry
from optc.passes.base import Context, Exact
from optc.passes.canonicalize.canonicalize import Canonicalize
from optc.passes.pipeline import Pipeline
from optc.passes.registry import PASSES, parse_passes, pass_class
from optc.passes.text import to_text

IDENTITY = """<ir_version: 10, opset_import: ["": 21]>
  g (float[2] x) => (float[2] y) { a = Identity(x)  y = Neg(a) }"""

FAMILY = [p.name for p in Canonicalize().passes()]


def ops(proto: onnx.ModelProto) -> list[str]:
    return [n.op_type for n in proto.graph.node]


def test_an_old_model_becomes_simple(check: Any) -> None:
    before = """<ir_version: 3, opset_import: ["": 9]>
      g (float[1,2,5] x, float[3,2,3] w, float[3] s, float[3] b, float[3] m, float[3] v, float[3,1] k)
      => (float[1,9] y)
      <float[3] s = {1,2,3}, float[3] b = {1,0,1}, float[3] m = {0,1,0}, float[3] v = {1,2,3},
       float[3,2,3] w = {1,2,3,4,5,6,7,8,9,1,2,3,4,5,6,7,8,9}, float[3,1] k = {2,3,4}>
      { c = Conv(x, w)  n = BatchNormalization(c, s, b, m, v)  a = Mul(n, k)  d = Add(k, a)  e = Dropout(d)
        r = Relu(e)  i = Identity(r)  h = Shape(i)  z = Constant<value = int64[1] {0}>()  f = Gather(h, z)
        o = Constant<value = int64[1] {-1}>()  t = Concat<axis = 0>(f, o)  y = Reshape(i, t) }"""
    proto = onnx.parser.parse_model(before)
    result = check.run(Canonicalize(), proto)
    assert ops(result) == ["Conv", "Relu", "Reshape"]
    assert result.opset_import[0].version == 21
    assert [i.name for i in result.graph.input] == ["x"]
    onnx.checker.check_model(result, full_check=True)


def test_nothing_to_do(check: Any) -> None:
    check.leaves(Canonicalize(), "g (float[2] x) => (float[2] y) { a = Relu(x)  y = Neg(a) }")


def test_random_nodes_stay() -> None:
    text = """<ir_version: 10, opset_import: ["": 21]> g () => (float[2] y)
      { s = Constant<value = int64[1] {2}>()  a = RandomNormal<shape = [2]>()  b = RandomNormal<shape = [2]>()
        c = ConstantOfShape(s)  d = Add(a, b)  y = Sub(d, c) }"""
    model = Model(onnx.parser.parse_model(text))
    assert Canonicalize().run(model, Context())
    assert ops(model.to_proto()).count("RandomNormal") == 2


def test_a_quantized_graph_keeps_its_pattern(check: Any) -> None:
    text = """g (float[1,1,3] x) => (float[1,1,3] y) <int8[1,1,1] w = {3}, float s = {0.5}, int8 z = {0},
      float[1,1,1] k = {2}>
      { q = QuantizeLinear(x, s, z)  d = DequantizeLinear(q, s, z)  e = DequantizeLinear(w, s)  c = Conv(d, e)
        y = Mul(c, k) }"""
    result = check.run(Canonicalize(), text)
    assert ops(result) == ["QuantizeLinear", "DequantizeLinear", "DequantizeLinear", "Conv", "Mul"]


def test_unknown_domains_are_carried_through() -> None:
    text = """<ir_version: 7, opset_import: ["": 11, "my": 1]> g (float[2] x) => (float[2] y)
      { a = Identity(x)  b = my.F<k = 3>(a)  c = my.F<k = 3>(a)  d = Identity(c)  y = Add(b, d) }"""
    model, context = Model(onnx.parser.parse_model(text)), Context()
    assert Canonicalize().run(model, context)
    assert ops(model.to_proto()) == ["F", "F", "Add"]
    assert model.opset == 11
    assert "is of the domain my" in context.declined[0].reason
    assert len(context.declined) == 1


@pytest.mark.parametrize(
    "dtype", [onnx.TensorProto.BFLOAT16, onnx.TensorProto.INT4, onnx.TensorProto.FLOAT8E4M3FN]
)
def test_types_that_numpy_lacks_are_carried_through(dtype: int) -> None:
    tensor = onnx.helper.make_tensor("w", dtype, [2], [1, 2])
    node = onnx.helper.make_node("Cast", ["w"], ["c"], to=onnx.TensorProto.FLOAT)
    add = onnx.helper.make_node("Add", ["x", "c"], ["y"])
    values = [onnx.helper.make_tensor_value_info(n, onnx.TensorProto.FLOAT, [2]) for n in "xy"]
    graph = onnx.helper.make_graph([node, add], "g", values[:1], values[1:], [tensor])
    proto = onnx.helper.make_model(graph, opset_imports=[onnx.helper.make_opsetid("", 21)], ir_version=10)
    model = Model(proto)
    Canonicalize().run(model, Context())
    result = model.to_proto()
    assert [t for t in result.graph.initializer if t.name == "w"] == [tensor]


def test_same_input_same_bytes() -> None:
    proto = zoo_entry("mobilenet-v2").build()
    written = []
    for _ in range(2):
        model = Model(proto)
        Canonicalize().run(model, Context())
        written.append(model.to_proto().SerializeToString(deterministic=True))
    assert written[0] == written[1]


@pytest.mark.parametrize(
    ("name", "left", "gone"),
    [
        ("fashion-resnet", 27, {"BatchNormalization"}),
        ("resnet18-v2", 60, set()),
        ("mobilenet-v2", 100, {"BatchNormalization"}),
        ("unet", 50, {"BatchNormalization"}),
        ("gpt-decoder", 145, set()),
    ],
)
def test_networks_of_the_zoo(check: Any, name: str, left: int, gone: set[str]) -> None:
    entry = zoo_entry(name)
    result = check.run(Canonicalize(), entry.build())
    assert len(result.graph.node) <= left
    assert not gone & set(ops(result))


def test_the_family_is_in_the_registry_and_prints() -> None:
    assert set(FAMILY) <= set(PASSES)
    for p in Canonicalize(opset=22, fold_limit=2.0).passes():
        assert pass_class(p.name) is type(p)
        assert parse_passes(to_text([p])) == (p,)
        assert isinstance(p.contract, Exact)
    assert parse_passes("canonicalize{fold_limit=2.0}") == (Canonicalize(fold_limit=2.0),)


@pytest.mark.parametrize("name", [*FAMILY, "canonicalize"])
def test_an_unknown_option_is_an_error(name: str) -> None:
    with pytest.raises(InputError, match=f"pass '{name}' has no option 'colour'"):
        parse_passes(f"{name}{{colour=red}}")


@pytest.mark.parametrize("text", ["canonicalize{opset=999}", "canonicalize{fold_limit=0.5}"])
def test_a_bad_option_is_an_error_at_once(text: str) -> None:
    with pytest.raises(InputError, match="999 is unknown|0.5 is below 1"):
        parse_passes(text)


def test_in_a_pipeline_the_second_run_changes_nothing() -> None:
    model = Model(onnx.parser.parse_model(IDENTITY))
    steps = Pipeline((Canonicalize(), Canonicalize())).run(model)
    assert [s.changed for s in steps] == [True, False]


def test_a_failure_names_the_pass_and_the_node(monkeypatch: pytest.MonkeyPatch) -> None:
    from optc.passes.canonicalize import remove_noops

    def broken(*_: Any) -> None:
        raise ZeroDivisionError("no")

    monkeypatch.setitem(remove_noops._RULES, "Identity", broken)
    with pytest.raises(Exception, match=r"pass 'canonicalize' failed at node a \(Identity\)"):
        Pipeline((Canonicalize(),)).run(Model(onnx.parser.parse_model(IDENTITY)))


def test_external_data_stays_external(tmp_path: Any) -> None:
    proto = onnx.parser.parse_model(
        """<ir_version: 10, opset_import: ["": 21]> g (float[1,2] x) => (float[1,900] y)
        { m = MatMul(x, w)  y = Add(m, b) }"""
    )
    rng = np.random.default_rng(0)
    for name, shape in (("w", (2, 900)), ("b", (900,))):
        array = rng.standard_normal(shape).astype(np.float32)
        proto.graph.initializer.append(onnx.numpy_helper.from_array(array, name))
    Model(proto).save(tmp_path / "m.onnx", external=True)
    model = Model.load(tmp_path / "m.onnx")
    Canonicalize().run(model, Context())
    model.save(tmp_path / "out.onnx")
    assert ops(onnx.load(tmp_path / "out.onnx", load_external_data=False)) == ["Gemm"]
    assert (tmp_path / "out.onnx.data").exists()
