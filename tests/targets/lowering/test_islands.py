from __future__ import annotations

import numpy as np
import onnx
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from optc.models.model import Model
from optc.models.session import Session
from optc.targets.lowering.graph import Graph, uses
from optc.targets.lowering.islands import Island, WholeGraphError, cut, plan, schedule


def graph(text: str) -> Graph:
    return Graph(Model(onnx.parser.parse_model(f'<ir_version: 8, opset_import: ["": 17]> {text}')))


CHAIN = "g (float[N,4] x) => (float[N,4] y) { a = Relu(x) b = Exp(a) c = Neg(b) y = Add(c, a) }"


def test_neighbours_are_one_island() -> None:
    islands, reasons = plan(graph(CHAIN), {1: "r", 2: "s"})
    assert islands == [Island((1, 2), ("a",), ("c",))]
    assert reasons == {1: "r", 2: "s"}


def test_nothing_refused_is_no_island() -> None:
    assert plan(graph(CHAIN), {}) == ([], {})


def test_a_path_outside_keeps_islands_apart() -> None:
    """Exp and Add share a value, but as one island they would need Neg, which needs Exp."""
    islands, _ = plan(graph(CHAIN), {1: "r", 3: "r"})
    assert [i.nodes for i in islands] == [(1,), (3,)]
    assert schedule(graph(CHAIN), islands) == [0, islands[0], 2, islands[1]]


def test_an_island_runs_before_those_that_wait_for_its_first_node() -> None:
    """Exp and Cos are joined by Add; Neg stands between them in the file and needs Exp only."""
    text = """g (float[4] x) => (float[4] y, float[4] z)
    { a = Exp(x) z = Neg(a) b = Cos(x) y = Add(a, b) }"""
    islands, _ = plan(graph(text), {0: "r", 2: "r", 3: "r"})
    assert islands == [Island((0, 2, 3), ("x",), ("a", "y"))]
    assert schedule(graph(text), islands) == [islands[0], 1]


def test_the_users_of_a_shape_that_depends_on_data_join() -> None:
    text = """g (float[8] x) => (float y)
    { i = NonZero(x) t = Transpose(i) v = GatherND(x, t) y = ReduceSum <keepdims = 0>(v) }"""
    islands, reasons = plan(graph(text), {0: "depends on data"})
    assert [i.nodes for i in islands] == [(0, 1, 2, 3)]
    assert "depends on data" in reasons[3]


def test_what_lies_between_parts_that_cannot_be_cut_joins() -> None:
    text = """g (float[8] x) => (float[8] y)
    { i = NonZero(x) n = Relu(x) e = Exp(n) s = Shape(i) t = Gather(s, k)
      u = Cast <to = 1>(t) w = Mul(e, u) y = Add(w, n) } """
    text = text.replace("=> (float[8] y)", "=> (float[8] y) <int64 k = {1}>")
    islands, _ = plan(graph(text), {0: "r", 2: "r"})
    assert not {0, 3} - set(islands[0].nodes)


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("g (float[8] x) => (int64[1,M] y) { y = NonZero(x) }", "'y'.*depends on data"),
        ("g (string[4] x) => (string[4] y) { y = Identity(x) }", "'x'.*is of type string"),
        ("g (seq(float[4]) x) => (int64 y) { y = SequenceLength(x) }", "'x'.*is a sequence, not a tensor"),
        ("g (float[] x) => (float[] y) { y = Relu(x) }", "'x'.*shape that cannot be inferred"),
    ],
)
def test_borders_that_cannot_be_crossed_make_the_whole_graph_one(text: str, reason: str) -> None:
    with pytest.raises(WholeGraphError, match=reason):
        plan(graph(text), {0: "r"})


def test_a_cut_island_computes_what_it_did() -> None:
    found = graph(CHAIN)
    (island,), _ = plan(found, {1: "r", 2: "r"})
    a = np.random.default_rng(0).standard_normal((3, 4)).astype(np.float32)
    result = Session(cut(found, island)).run({"a": a})
    np.testing.assert_allclose(result["c"], -np.exp(a), rtol=1e-6)


def test_a_loop_s_captured_values_are_inputs_of_its_island() -> None:
    text = """g (float[4] x, bool c) => (float[4] y) {
      a = Relu(x)
      y = If (c) <then_branch = t () => (float[4] p) { p = Neg(a) },
                  else_branch = e () => (float[4] q) { q = Abs(x) }> }"""
    (island,), _ = plan(graph(text), {1: "control flow"})
    assert set(island.inputs) == {"c", "a", "x"}


@st.composite
def dags(draw: st.DrawFn) -> tuple[str, list[int]]:
    """A random graph of up to 12 two-input nodes, all results used, and which nodes are refused."""
    count = draw(st.integers(1, 12))
    lines = []
    for index in range(count):
        names = ["x"] + [f"v{i}" for i in range(index)]
        a, b = draw(st.sampled_from(names)), draw(st.sampled_from(names))
        lines.append(f"v{index} = Add({a}, {b})")
    outputs = ", ".join(f"float[4] v{i}" for i in range(count))
    refused = draw(st.lists(st.integers(0, count - 1), unique=True))
    return f"g (float[4] x) => ({outputs}) {{ {' '.join(lines)} }}", refused


@settings(max_examples=60, deadline=None)
@given(dags())
def test_every_plan_can_be_run(case: tuple[str, list[int]]) -> None:
    """Islands hold the refused nodes and no others, and some order computes all before it is used."""
    text, refused = case
    found = graph(text)
    islands, _ = plan(found, dict.fromkeys(refused, "r"))
    assert sorted(n for i in islands for n in i.nodes) == sorted(refused)
    known = {"x"}
    for item in schedule(found, islands):
        members = item.nodes if isinstance(item, Island) else (item,)
        inside = {o for n in members for o in found.nodes[n].output}
        assert all(name in known | inside for n in members for name in uses(found.nodes[n]))
        known |= inside
    assert len(known) == 1 + len(found.nodes)
