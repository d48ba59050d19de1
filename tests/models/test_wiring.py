"""Graphs that cannot run are refused: cycles, values that nobody gives. Any order of nodes is fine."""

from __future__ import annotations

import onnx
import pytest
from onnx import helper

from optc.models.errors import InputError
from optc.models.model import Model
from optc.models.session import Session

HEAD = '<ir_version: 8, opset_import: ["": 17]> '


def proto(*nodes: onnx.NodeProto) -> onnx.ModelProto:
    model = onnx.parser.parse_model(HEAD + "g (float[2] x, bool c) => (float[2] y) { y = Relu(x) }")
    del model.graph.node[:]
    model.graph.node.extend(nodes)
    return model


def body(text: str) -> onnx.GraphProto:
    return onnx.parser.parse_graph(text)


def test_a_cycle_of_two() -> None:
    with pytest.raises(InputError, match=r"model 'g': the graph has a cycle at node second \(Relu\)"):
        Model(
            proto(
                helper.make_node("Neg", ["x"], ["a"]),
                helper.make_node("Relu", ["z"], ["y"], name="second"),
                helper.make_node("Add", ["y", "a"], ["z"]),
            )
        )


def test_a_node_that_reads_itself() -> None:
    with pytest.raises(InputError, match="cycle at node y"):
        Model(proto(helper.make_node("Add", ["x", "y"], ["y"])))


def test_a_cycle_through_a_subgraph() -> None:
    reads_outer = body("t () => (float[2] a) { a = Neg(z) }")
    plain = body("e () => (float[2] b) { b = Neg(x) }")
    with pytest.raises(InputError, match="cycle"):
        Model(
            proto(
                helper.make_node("If", ["c"], ["y"], then_branch=reads_outer, else_branch=plain),
                helper.make_node("Relu", ["y"], ["z"]),
            )
        )


def test_a_cycle_inside_a_subgraph() -> None:
    loop = body("t () => (float[2] a) { a = Neg(q) q = Relu(a) }")
    plain = body("e () => (float[2] b) { b = Neg(x) }")
    with pytest.raises(InputError, match="cycle at node a"):
        Model(proto(helper.make_node("If", ["c"], ["y"], then_branch=loop, else_branch=plain)))


def test_an_unsorted_graph_is_no_cycle() -> None:
    model = Model(proto(helper.make_node("Relu", ["a"], ["y"]), helper.make_node("Neg", ["x"], ["a"])))
    Session(model)


def test_names_of_a_body_do_not_shadow_those_outside() -> None:
    same = body("t () => (float[2] z) { z = Neg(x) }")
    Model(
        proto(
            helper.make_node("If", ["c"], ["y"], then_branch=same, else_branch=same),
            helper.make_node("Relu", ["y"], ["z"]),
        )
    )


def test_inputs_of_a_body_are_its_own() -> None:
    scan = body("b (float s, float y) => (float t, float o) { t = Add(s, y) o = Relu(y) }")
    node = helper.make_node("Scan", ["k", "x"], ["f", "y"], body=scan, num_scan_inputs=1)
    Model(proto(helper.make_node("ReduceSum", ["x"], ["k"], keepdims=0), node))


def test_a_value_that_nobody_gives() -> None:
    with pytest.raises(InputError, match=r"model 'g': node y \(Add\) reads 'lost', which nothing gives"):
        Model(proto(helper.make_node("Add", ["x", "lost"], ["y"])))
    with pytest.raises(InputError, match="nothing gives the output 'y'"):
        Model(proto(helper.make_node("Relu", ["x"], ["a"])))


def test_a_value_that_nobody_gives_in_a_subgraph() -> None:
    lost = body("t () => (float[2] a) { a = Neg(lost) }")
    plain = body("e () => (float[2] b) { b = Neg(x) }")
    with pytest.raises(InputError, match=r"node a \(Neg\) reads 'lost'"):
        Model(proto(helper.make_node("If", ["c"], ["y"], then_branch=lost, else_branch=plain)))


def test_absent_optional_inputs_are_fine() -> None:
    Model(proto(helper.make_node("Clip", ["x", "", ""], ["y"])))
