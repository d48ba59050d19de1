"""upgrade-opset, infer-shapes, inline-ifs."""

from __future__ import annotations

from typing import Any

import numpy as np
import onnx
import onnx_graphsurgeon as gs
import pytest

from optc.models.errors import InputError
from optc.models.model import Model
from optc.passes.base import Context
from optc.passes.canonicalize.infer_shapes import InferShapes
from optc.passes.canonicalize.inline_ifs import InlineIfs
from optc.passes.canonicalize.upgrade_opset import UpgradeOpset

OLD = '<ir_version: 6, opset_import: ["": 11]> '


def parse(text: str) -> onnx.ModelProto:
    return onnx.parser.parse_model(text)


def test_upgrade(check: Any) -> None:
    before = OLD + "g (float[2,3] x) => (float[1,2,3] y) { y = Unsqueeze<axes = [0]>(x) }"
    proto = parse(before)
    result = check.run(UpgradeOpset(21), proto)
    assert result.opset_import[0].version == 21
    assert result.ir_version == 10
    assert len(result.graph.node[-1].input) == 2


def test_a_newer_model_stays(check: Any) -> None:
    text = '<ir_version: 10, opset_import: ["": 22]> g (float[2] x) => (float[2] y) { y = Neg(x) }'
    check.leaves(UpgradeOpset(21), text)


def test_upgrade_keeps_what_the_converter_drops() -> None:
    proto = parse(OLD + "g (float[2,400] x) => (float[2,400] y) { a = Neg(x)  y = Softmax(a) }")
    proto.doc_string = "a model"
    proto.metadata_props.add(key="author", value="somebody")
    proto.graph.doc_string = "a graph"
    proto.graph.node[0].name = "first"
    proto.graph.node[0].doc_string = "a node"
    proto.graph.node[0].metadata_props.add(key="k", value="v")
    model = Model(proto)
    assert UpgradeOpset(21).run(model, Context())
    result = model.to_proto()
    onnx.checker.check_model(result)
    node = next(n for n in result.graph.node if n.op_type == "Neg")
    assert (result.doc_string, result.graph.doc_string, node.doc_string) == ("a model", "a graph", "a node")
    assert result.metadata_props == proto.metadata_props
    assert (node.name, node.metadata_props[0].value) == ("first", "v")


def test_large_weights_do_not_go_through_the_converter(monkeypatch: pytest.MonkeyPatch, check: Any) -> None:
    proto = parse(OLD + "g (float[2,400] x) => (float[2,400] y) { y = Mul(x, w) }")
    weights = np.random.default_rng(0).standard_normal((2, 400)).astype(np.float32)
    proto.graph.initializer.append(onnx.numpy_helper.from_array(weights, "w"))
    convert = onnx.version_converter.convert_version
    sizes = []

    def spy(light: onnx.ModelProto, version: int) -> onnx.ModelProto:
        sizes.append(light.ByteSize())
        return convert(light, version)

    monkeypatch.setattr(onnx.version_converter, "convert_version", spy)
    result = check.run(UpgradeOpset(21), proto)
    assert sizes[0] < 1000
    assert onnx.numpy_helper.to_array(result.graph.initializer[0]).tolist() == weights.tolist()


def test_upgrade_after_other_changes_keeps_large_attributes(check: Any) -> None:
    values = onnx.numpy_helper.from_array(np.arange(800, dtype=np.float32), "v")
    proto = parse(OLD + "g (float[800] x) => (float[1,800] y) { a = Add(x, c) y = Unsqueeze<axes=[0]>(a) }")
    proto.graph.node.insert(0, onnx.helper.make_node("Constant", [], ["c"], value=values))
    model = Model(proto)
    model.graph.doc_string = "changed"
    assert UpgradeOpset(21).run(model, Context())
    check.equal_outputs(proto, model.to_proto())


def test_upgrade_in_subgraphs(check: Any) -> None:
    text = """g (bool c, float[2,3,4] x) => (float[2,3,4] y) {
      y = If (c) <then_branch = t () => (float[2,3,4] p) { p = Softmax<axis = 1>(x) },
                  else_branch = e () => (float[2,3,4] q) { q = Softmax<axis = 0>(x) }> }"""
    check.run(UpgradeOpset(21), parse(OLD + text))


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        (
            '<ir_version: 6, opset_import: ["": 11, "my": 1]> g (float[2] x) => (float[2] y) { y = my.F(x) }',
            "is of the domain my",
        ),
        (
            '<ir_version: 6, opset_import: ["": 3]> g (float[2] x) => (float[2] y) { y = Upsample(x) }',
            "stays at opset 3, not 21",
        ),
        (
            """<ir_version: 8, opset_import: ["": 11, "my": 1]> g (float[2] x) => (float[2] y) { y = Neg(x) }
            <domain: "my", opset_import: ["": 11]> F (a) => (b) { b = Neg(a) }""",
            "it holds functions",
        ),
        (
            """<ir_version: 6, opset_import: ["": 8]>
              g (float[1,1] s, float[1,3,1] x) => (float[1,1] t, float[1,3,1] y) {
              t, y = Scan<num_scan_inputs = 1, body = b (float[1] a, float[1] i) => (float[1] c, float[1] o)
              { c = Add(a, i)  o = Identity(c) }>(, s, x) }""",
            "a Scan of opset 8",
        ),
    ],
)
def test_what_cannot_be_converted_is_carried_through(text: str, reason: str) -> None:
    proto = parse(text)
    original = proto.SerializeToString()
    model, context = Model(proto), Context()
    assert not UpgradeOpset(21).run(model, context)
    assert reason in context.declined[0].reason
    assert model.to_proto().SerializeToString() == original


@pytest.mark.parametrize("opset", [0, 999])
def test_an_unknown_opset_is_an_error(opset: int) -> None:
    with pytest.raises(InputError, match=f"opset {opset} is unknown"):
        UpgradeOpset(opset)


def shapes(model: Model) -> dict[str, Any]:
    return {n: t.shape for n, t in model.view.tensors().items() if isinstance(t, gs.Variable)}


def test_infer_shapes() -> None:
    text = """<ir_version: 10, opset_import: ["": 21]> g (float[N,3,8,8] x) => (float[N,192] y)
      { a = Relu(x)  s = Shape(a)  b = Flatten(a)  y = Neg(b) }"""
    model = Model(parse(text))
    assert InferShapes().run(model, Context())
    found = shapes(model)
    assert (found["a"], found["b"], found["s"]) == (["N", 3, 8, 8], ["N", 192], [4])
    assert model.view.tensors()["s"].dtype == np.int64
    assert not InferShapes().run(model, Context())
    infos = {i.name for i in model.to_proto().graph.value_info}
    assert infos == {"a", "s", "b"}


def test_what_the_file_says_is_kept() -> None:
    text = """<ir_version: 10, opset_import: ["": 21]> g (float[N,3] x) => (float[N,3] y)
      { a = Relu(x)  y = Neg(a) }"""
    proto = parse(text)
    proto.graph.value_info.append(
        onnx.helper.make_tensor_value_info("a", onnx.TensorProto.FLOAT, ["K", None])
    )
    model = Model(proto)
    assert InferShapes().run(model, Context())
    assert shapes(model)["a"] == ["K", 3]


def test_infer_shapes_in_subgraphs_and_after_a_change() -> None:
    text = """<ir_version: 10, opset_import: ["": 21]> g (bool c, float[2,3] x) => (float[2,3] y) {
      a = Neg(x)
      y = If (c) <then_branch = t () => (float[2,3] p) { d = Relu(a)  p = Neg(d) },
                  else_branch = e () => (float[2,3] q) { q = Neg(a) }> }"""
    model = Model(parse(text))
    model.graph.doc_string = "changed"
    assert InferShapes().run(model, Context())
    branch = model.view.nodes[1].attrs["then_branch"]
    assert branch.nodes[0].outputs[0].shape == [2, 3]


def test_a_contradiction_is_declined() -> None:
    text = """<ir_version: 10, opset_import: ["": 21]> g (float[2,3] x, float[4,5] z) => (float[a,b] y)
      { a = MatMul(x, z)  y = Neg(a) }"""
    model, context = Model(parse(text)), Context()
    InferShapes().run(model, context)
    model.to_proto()
    for declined in context.declined:
        assert "shapes cannot be inferred" in declined.reason


def test_every_type_known_is_nothing_to_do(check: Any) -> None:
    check.leaves(InferShapes(), "g (float[2] x) => (float[2] y) { a = Neg(x)  y = Neg(a) }")


IF = """g (float[2] x) => (float[2] y) <bool c = {{{value}}}> {{ a = Exp(x)
      b = If (c) <then_branch = t () => (float[2] p) {{ a1 = Neg(a)  p = Neg(a1) }},
                  else_branch = e () => (float[2] q) {{ k = Constant<value = float {{2}}>()  q = Mul(a, k) }}>
      y = Abs(b) }}"""


@pytest.mark.parametrize(
    ("value", "body"),
    [
        ("1", "a = Exp(x)  a1 = Neg(a)  b = Neg(a1)  y = Abs(b)"),
        ("0", "a = Exp(x)  k = Constant<value = float {2}>()  b = Mul(a, k)  y = Abs(b)"),
    ],
)
def test_inline_ifs(check: Any, value: str, body: str) -> None:
    after = f"g (float[2] x) => (float[2] y) {{ {body} }}"
    check.rewrites(InlineIfs(), IF.format(value=value), after)


def test_an_if_that_gives_an_output(check: Any) -> None:
    before = """g (float[2] x) => (float[2] y) <bool c = {1}> {
      y = If (c) <then_branch = t () => (float[2] p) { p = Neg(x) },
                  else_branch = e () => (float[2] q) { q = Abs(x) }> }"""
    check.rewrites(InlineIfs(), before, "g (float[2] x) => (float[2] y) { y = Neg(x) }")


def test_inner_names_that_are_taken_are_changed() -> None:
    one = """If (c) <then_branch = t () => (float[2] p) { i = Neg(x)  p = Exp(i) },
                     else_branch = e () => (float[2] q) { i = Abs(x)  q = Neg(i) }>"""
    text = f"""<ir_version: 10, opset_import: ["": 21]> g (float[2] x) => (float[2] y)
      <bool c = {{1}}> {{ a = {one}  b = {one}  y = Add(a, b) }}"""
    model = Model(parse(text))
    for _ in range(3):
        InlineIfs().run(model, Context())
    proto = model.to_proto()
    onnx.checker.check_model(proto, full_check=True)
    names = [name for node in proto.graph.node for name in node.output]
    assert len(set(names)) == len(names) == 5


@pytest.mark.parametrize("condition", ["(bool c, float[2] x)", "(bool c, float[2] x) => overridable"])
def test_a_condition_that_can_change_stays(check: Any, condition: str) -> None:
    inputs, _, overridable = condition.partition(" => ")
    initializer = "<bool c = {1}>" if overridable else ""
    text = f"""g {inputs} => (float[2] y) {initializer} {{
      y = If (c) <then_branch = t () => (float[2] p) {{ p = Neg(x) }},
                  else_branch = e () => (float[2] q) {{ q = Abs(x) }}> }}"""
    check.leaves(InlineIfs(), text)
