"""Pools with ceil_mode: the graph's shapes are those that ONNX Runtime makes."""

from __future__ import annotations

from typing import Any

import numpy as np
import onnx
from hypothesis import example, given, settings
from hypothesis import strategies as st
from onnx import TensorProto, helper

from optc.models.errors import OptcError
from optc.models.model import Model
from optc.models.session import Session
from optc.targets.lowering.graph import Graph

DRAWN: dict[str, Any] = {
    "op": st.sampled_from(["MaxPool", "AveragePool"]),
    "size": st.integers(3, 9),
    "kernel": st.integers(1, 4),
    "stride": st.integers(1, 4),
    "before": st.integers(0, 3),
    "after": st.integers(0, 3),
    "counted": st.integers(0, 1),
}


def pools(op: str, size: int, kernel: int, stride: int, before: int, after: int, counted: int) -> Model:
    """Two of them, one behind the other, and a layer that reads the second."""
    more = {"count_include_pad": counted} if op == "AveragePool" else {}
    pads = [min(before, kernel - 1), min(after, kernel - 1)]
    nodes = [
        helper.make_node(
            op, [a], [b], kernel_shape=[kernel], strides=[stride], pads=pads, ceil_mode=1, **more
        )
        for a, b in (("x", "h"), ("h", "y"))
    ]
    nodes.append(helper.make_node("Relu", ["y"], ["z"]))
    graph = helper.make_graph(
        nodes,
        "pools",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, ["N", 2, size])],
        [helper.make_tensor_value_info("z", TensorProto.FLOAT, None)],
    )
    proto = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 19)], ir_version=10)
    return Model(onnx.shape_inference.infer_shapes(proto))


@settings(max_examples=150, deadline=None)
@given(case=st.fixed_dictionaries(DRAWN))
@example(dict(op="MaxPool", size=6, kernel=3, stride=3, before=0, after=1, counted=0))
@example(dict(op="AveragePool", size=6, kernel=3, stride=3, before=2, after=2, counted=1))
def test_shapes_and_values(case: dict[str, Any]) -> None:
    model = pools(**case)
    x = {"x": np.random.default_rng(0).normal(size=(1, 2, case["size"])).astype(np.float32)}
    try:
        wanted = Session(model).run(x)["z"]
    except OptcError:
        return  # a window larger than its input
    graph = Graph(model)
    assert graph.types["z"].dims[1:] == wanted.shape[1:]
    found = Session(Model(graph.proto)).run(x)["z"]
    np.testing.assert_allclose(found, wanted, rtol=1e-6)


def test_a_pool_that_is_right_stays() -> None:
    model = pools("MaxPool", 8, 3, 2, 0, 0, 0)
    assert [n for n in Graph(model).nodes] == [n for n in Graph(Model(Graph(model).proto)).nodes]
    (attribute,) = [a for a in Graph(model).nodes[0].attribute if a.name == "ceil_mode"]
    assert attribute.i == 1
