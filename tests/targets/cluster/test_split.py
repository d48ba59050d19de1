from __future__ import annotations

from collections import Counter

import numpy as np
import onnx
import pytest
from drawn_graphs import Arrays, cluster, feeds_of, in_stages, networks, run_split
from hypothesis import given, settings
from hypothesis import strategies as st
from onnx import parser

from optc.models.errors import InputError
from optc.models.model import Model
from optc.models.session import Session
from optc.passes.partition.assignment import Assignment
from optc.passes.partition.cluster import Cluster, Device, Link
from optc.passes.partition.sharding.layout import Layout, Sharding, Split
from optc.passes.partition.solve import evaluate, solve
from optc.targets.cluster.program import CALLER
from optc.targets.cluster.simulate import simulate
from optc.targets.cluster.split import split

CHAIN = """<ir_version: 10, opset_import: ["": 18]>
chain (float[2,4] x) => (float[2,4] y) { h = Relu(x) g = Neg(h) y = Add(g, h) }"""


def model_of(text: str) -> Model:
    return Model(parser.parse_model(text))


def test_a_value_goes_once_to_each_stage_that_reads_it() -> None:
    program, models = split(model_of(CHAIN), in_stages({"h": 0, "g": 1, "y": 2}), {"g": 0.5})
    assert sorted((m.tensor, m.source, m.to, m.bytes) for m in program.messages) == [
        ("g", 1, 2, 32),
        ("h", 0, 1, 32),
        ("h", 0, 2, 32),
    ]
    assert program.inputs == ("x",) and program.outputs == {"y": 2}
    parts = [part for rank in program.ranks for part in rank.parts]
    assert [(p.name, p.inputs, p.outputs, p.seconds) for p in parts] == [
        ("rank0", ("x",), ("h",), 0.0),
        ("rank1", ("h",), ("g",), 0.5),
        ("rank2", ("g", "h"), ("y",), 0.0),
    ]
    assert [len(models[p.name].view.nodes) for p in parts] == [1, 1, 1]


def test_outputs_that_no_node_makes() -> None:
    text = """<ir_version: 10, opset_import: ["": 18]>
    odd (float[2] x) => (float[2] x, float[2] c, float[2] y) <float[2] c = {1.0, 2.0}> { y = Add(x, c) }"""
    model = model_of(text)
    program, _ = split(model, in_stages({"y": 0}), {})
    assert program.outputs == {"x": CALLER, "c": 0, "y": 0}
    feeds = feeds_of(model)
    found = run_split(model, in_stages({"y": 0}), feeds)
    c = np.array([1, 2], np.float32)
    np.testing.assert_equal(found, {"x": feeds["x"], "c": c, "y": feeds["x"] + c})


def test_what_nothing_needs_is_left_out() -> None:
    text = """<ir_version: 10, opset_import: ["": 18]>
    dead (float[2] x) => (float[2] y) { unused = Neg(x) y = Relu(x) }"""
    program, models = split(model_of(text), in_stages({"unused": 0, "y": 0}), {})
    assert [n.op for n in models["rank0"].view.nodes] == ["Relu"]
    assert not program.messages


def test_values_that_only_a_subgraph_reads_are_sent() -> None:
    text = """<ir_version: 10, opset_import: ["": 18]>
    branch (float[2] x, bool c) => (float[2] y) {
        h = Neg(x)
        y = If(c) <then_branch = a () => (float[2] t) { t = Relu(h) },
                   else_branch = b () => (float[2] e) { e = Abs(h) }>
    }"""
    model = model_of(text)
    assignment = in_stages({"h": 0, "y": 1})
    program, _ = split(model, assignment, {})
    assert [m.tensor for m in program.messages] == ["h"]
    x = np.array([1, -2], np.float32)
    for c in (True, False):
        feeds: Arrays = {"x": x, "c": np.array(c)}
        np.testing.assert_equal(run_split(model, assignment, feeds), Session(model, threads=1).run(feeds))


def test_a_subgraph_reads_the_whole_of_a_shared_value() -> None:
    """Where a node beside it reads the share that its device holds."""
    text = """<ir_version: 10, opset_import: ["": 18]>
    branch (float[4,64] x, bool c) => (float[4,64] y) {
        h = Exp(x)
        m = If(c) <then_branch = a () => (float[1,1] t) { t = ReduceMax(h) },
                   else_branch = b () => (float[1,1] e) { e = ReduceMin(h) }>
        y = Mul(h, m)
    }"""
    model = model_of(text)
    assignment = solve(model, cluster(4), tensor=4).assignment
    assert {"h", "y"} <= set(assignment.sharding.layouts)
    x = np.random.default_rng(0).normal(size=(4, 64)).astype(np.float32)
    for c in (True, False):
        feeds: Arrays = {"x": x, "c": np.array(c)}
        np.testing.assert_equal(run_split(model, assignment, feeds), Session(model).run(feeds))


def test_a_sequence_cannot_be_sent() -> None:
    text = """<ir_version: 10, opset_import: ["": 18]>
    pieces (float[4] x) => (float[2] y) <int64 zero = {0}, int64 two = {2}> {
        s = SplitToSequence<axis=0>(x, two)
        y = SequenceAt(s, zero)
    }"""
    with pytest.raises(InputError, match="'s' goes between devices, but is no tensor"):
        split(model_of(text), in_stages({"s": 0, "y": 1}), {})


def test_a_model_that_takes_a_sequence() -> None:
    text = """<ir_version: 10, opset_import: ["": 18]>
    first (seq(float[2]) s, int64 i) => (float[2] y) { y = SequenceAt(s, i) }"""
    with pytest.raises(InputError, match="'s', which the model takes or gives, is no tensor"):
        split(model_of(text), in_stages({"y": 0}), {})


def test_what_numpy_lacks_cannot_be_sent() -> None:
    text = """<ir_version: 10, opset_import: ["": 19]>
    small (float[4] x) => (float[4] y, bfloat16[4] z) {
        h = Cast<to=16>(x)
        y = Cast<to=1>(h)
        z = Cast<to=16>(y)
    }"""
    split(model_of(text), in_stages({"h": 0, "y": 0, "z": 1}), {})
    with pytest.raises(InputError, match="'h' goes between devices, but is bfloat16"):
        split(model_of(text), in_stages({"h": 0, "y": 1, "z": 1}), {})


def test_devices_do_not_share_random_work() -> None:
    text = """<ir_version: 10, opset_import: ["": 18]>
    noisy (float[4,64] x) => (float[4,64] y) { r = RandomNormalLike(x) y = Add(x, r) }"""
    split(model_of(text), in_stages({"r": 0, "y": 1}), {})
    with pytest.raises(InputError, match=r"node 'r' \(RandomNormalLike\) is random"):
        split(model_of(text), solve(model_of(text), cluster(2), tensor=2).assignment, {})


@settings(max_examples=40, deadline=None)
@given(networks(), st.integers(1, 4), st.integers(0, 3))
def test_any_stages_give_the_same_bits(proto: onnx.ModelProto, count: int, seed: int) -> None:
    model = Model(proto)
    names = [n.output[0] for n in proto.graph.node]
    stage, rng = {}, np.random.default_rng(seed)
    places = np.sort(rng.integers(0, count, len(names)))
    for name, at in zip(names, np.unique(places, return_inverse=True)[1], strict=True):
        stage[name] = int(at)
    feeds = feeds_of(model, seed)
    np.testing.assert_equal(run_split(model, in_stages(stage), feeds), Session(model, threads=1).run(feeds))


@settings(max_examples=40, deadline=None)
@given(networks(), st.sampled_from([(1, 2), (1, 3), (1, 5), (2, 2), (2, 3)]))
def test_shared_work_gives_the_same_up_to_rounding(proto: onnx.ModelProto, degrees: tuple[int, int]) -> None:
    stages, tensor = degrees
    model = Model(proto)
    stages = min(stages, len(proto.graph.node))
    assignment = solve(model, cluster(10), 1, stages, tensor).assignment
    feeds = feeds_of(model)
    want, found = Session(model, threads=1).run(feeds), run_split(model, assignment, feeds)
    assert set(found) == set(want)
    for name, array in want.items():
        np.testing.assert_allclose(found[name], array, rtol=1e-4, atol=1e-5 * np.abs(array).max())


def test_two_layers_need_one_reduction_and_nothing_else() -> None:
    """Megatron's pair: columns of the first matrix, rows of the second."""
    text = """<ir_version: 10, opset_import: ["": 18]>
    mlp (float[3,64] x, float[64,256] a, float[256,64] b) => (float[3,64] y) {
        h = MatMul(x, a) g = Relu(h) t = MatMul(g, b) y = Neg(t)
    }"""
    proto = parser.parse_model(text)
    for name, shape in (("a", (64, 256)), ("b", (256, 64))):
        proto.graph.initializer.append(onnx.numpy_helper.from_array(np.ones(shape, np.float32), name))
    del proto.graph.input[1:]
    model = Model(proto)
    assignment = solve(model, cluster(4), tensor=4).assignment
    program, models = split(model, assignment, {})
    assert Counter(c.kind for c in program.collectives) in (
        {"all_reduce": 1},
        {"reduce_scatter": 1, "all_gather": 1},
    )
    held = [
        sum(t.values.nbytes for t in m.view.tensors().values() if hasattr(t, "values"))
        for m in models.values()
    ]
    assert max(held) < 64 * 256 * 4


def test_weights_that_are_also_inputs_are_constants() -> None:
    """As models of IR version 3 have them."""
    text = """<ir_version: 10, opset_import: ["": 18]>
    mlp (float[3,64] x, float[64,256] a, float[256,64] b) => (float[3,64] y) {
        h = MatMul(x, a) g = Relu(h) y = MatMul(g, b)
    }"""
    proto = parser.parse_model(text)
    draw = np.random.default_rng(0)
    for name, shape in (("a", (64, 256)), ("b", (256, 64))):
        array = draw.normal(size=shape).astype(np.float32)
        proto.graph.initializer.append(onnx.numpy_helper.from_array(array, name))
    model = Model(proto)
    assignment = solve(model, cluster(2), tensor=2).assignment
    assert assignment.tensor == 2
    feeds = {"x": draw.normal(size=(3, 64)).astype(np.float32)}
    want, found = Session(model, threads=1).run(feeds)["y"], run_split(model, assignment, feeds)["y"]
    np.testing.assert_allclose(found, want, rtol=0, atol=1e-3)


def test_a_sum_is_sent_on_once_and_costs_what_is_predicted() -> None:
    """Each half of two of Megatron's pairs is a stage: between them goes the sum, not its terms."""
    text = """<ir_version: 10, opset_import: ["": 18]>
    mlp (float[3,64] x, float[64,64] p, float[64,64] q, float[64,64] r, float[64,64] s) => (float[3,64] y) {
        a = MatMul(x, p) b = MatMul(a, q) c = MatMul(b, r) y = MatMul(c, s)
    }"""
    proto = parser.parse_model(text)
    for name in "pqrs":
        array = np.random.default_rng(ord(name)).normal(size=(64, 64)).astype(np.float32)
        proto.graph.initializer.append(onnx.numpy_helper.from_array(array, name))
    del proto.graph.input[1:]
    model = Model(proto)
    ranges = tuple((16 * t, 16 * t + 16) for t in range(4))
    columns = Layout((None, Split(1, ranges)), (Split(1, ranges),))
    rows = Layout((Split(1, ranges), Split(0, ranges)), (None,), reduce=True)
    layouts = {"a": columns, "b": rows, "c": columns, "y": rows}
    assignment = Assignment(1, {"a": 0, "b": 0, "c": 1, "y": 1}, Sharding(4, layouts))
    devices = tuple(Device(f"d{i}", 1e9, 1e6, 2**40) for i in range(8))
    pairs = [(a.name, b.name) for i, a in enumerate(devices) for b in devices[i + 1 :]]
    on = Cluster("slow links", devices, dict.fromkeys(pairs, Link(1e-4, 1e6)))
    solution = evaluate(model, on, assignment)
    program, _ = split(model, assignment, solution.seconds)
    assert [(m.source, m.to, m.bytes) for m in program.messages] == [(t, t + 4, 768) for t in range(4)]
    assert simulate(program, on, 30, 3).throughput == pytest.approx(solution.throughput)
    feeds = feeds_of(model)
    want, found = Session(model, threads=1).run(feeds)["y"], run_split(model, assignment, feeds)["y"]
    np.testing.assert_allclose(found, want, rtol=0, atol=1e-3 * np.abs(want).max())
