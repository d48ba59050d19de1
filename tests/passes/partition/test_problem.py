import numpy as np
import onnx
import pytest
from onnx import numpy_helper

from optc.models.model import Model
from optc.models.source import open_source
from optc.passes.analysis.counts import count
from optc.passes.partition.cluster import Device
from optc.passes.partition.problem import INPUT, Item, Problem, Value, Weight

DEVICE = Device("d", macs_per_second=100.0, bytes_per_second=1000.0, memory_bytes=10**9)


def parse(text: str, **shapes: tuple[int, ...]) -> Model:
    proto = onnx.parser.parse_model('<ir_version: 10, opset_import: ["" : 21]>' + text)
    for name, shape in shapes.items():
        proto.graph.initializer.append(numpy_helper.from_array(np.ones(shape, np.float32), name))
    return Model(proto)


def test_a_node_takes_the_longer_of_computing_and_moving() -> None:
    model = parse(
        "g (float[2,8] x) => (float[2,4] y) { a = MatMul(x, w) s = Add(a, b) y = Relu(s) }", w=(8, 4), b=(4,)
    )
    problem = Problem.of(model, DEVICE)
    assert [i.name for i in problem.items] == ["a", "s", "y"]
    assert problem.items[0].seconds == pytest.approx(2 * 4 * 8 / 100)
    assert problem.items[1].seconds == pytest.approx(4 * (8 + 4 + 8) / 1000)
    assert problem.items[2].seconds == pytest.approx(4 * (8 + 8) / 1000)
    by_name = {v.name: v for v in problem.values}
    assert by_name["x"] == Value("x", INPUT, (0,), 64)
    assert by_name["a"] == Value("a", 0, (1,), 32)
    assert by_name["y"] == Value("y", 2, (), 32, kept=True)
    assert set(problem.weights) == {Weight("w", (0,), 128), Weight("b", (1,), 16)} and not problem.unknown


def test_constants_belong_to_their_readers_and_nodes_are_sorted() -> None:
    model = parse(
        "g (float[4] x) => (float[4] y) { y = Add(a, c) a = Mul(x, c)"
        " c = Constant<value = float[4] {1., 2., 3., 4.}>() }"
    )
    problem = Problem.of(model, DEVICE)
    assert [i.name for i in problem.items] == ["a", "y"]
    assert problem.weights == (Weight("c", (0, 1), 16),)


def test_gathering_does_not_read_the_whole_table() -> None:
    problem = Problem.of(parse("g (int64[2] i) => (float[2,8] y) { y = Gather(t, i) }", t=(100, 8)), DEVICE)
    assert problem.items[0].seconds == pytest.approx((64 + 64 + 16) / 1000)
    assert problem.weights == (Weight("t", (0,), 3200),)


def test_subgraphs_read_outer_values_and_hold_weights() -> None:
    model = parse(
        "g (bool q, float[4] x) => (float[4] y) { a = Neg(x) y = If(q) <"
        "then_branch = t () => (float[4] u) { k = Constant<value = float[4] {1., 2., 3., 4.}>()"
        " u = Add(a, k) },"
        "else_branch = e () => (float[4] v) { v = Identity(x) }> }"
    )
    problem = Problem.of(model, DEVICE)
    by_name = {v.name: v for v in problem.values}
    assert by_name["a"].readers == (1,) and by_name["x"].readers == (0, 1) and by_name["q"].readers == (1,)
    assert problem.weights == (Weight("in y", (1,), 16),)


def test_values_of_unknown_shape_are_counted() -> None:
    model = parse("g (float[4] x, int64[M] r) => (y) { a = Expand(x, r) y = Relu(a) }")
    assert Problem.of(model, DEVICE).unknown >= 1


def test_a_real_model_has_all_its_weights_and_macs() -> None:
    model = open_source("zoo:fashion-resnet").model
    device = Device("d", macs_per_second=1.0, bytes_per_second=1e30, memory_bytes=1)
    problem = Problem.of(model, device)
    assert problem.seconds == pytest.approx(count(model).macs)
    assert sum(w.bytes for w in problem.weights) == count(model).bytes


@pytest.mark.parametrize(
    ("values", "weights", "message"),
    [
        ([Value("v", 1, (0,), 1)], [], "read before"),
        ([Value("v", 0, (2,), 1)], [], "there is not"),
        ([Value("v", 0, (1,), -1)], [], "bytes"),
        ([], [Weight("w", (1, 0), 1)], "ascend"),
    ],
)
def test_unsound_problems_are_refused(values: list[Value], weights: list[Weight], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        Problem((Item("a", 1.0), Item("b", 1.0)), tuple(values), tuple(weights))
