from __future__ import annotations

import numpy as np
import onnx
import onnx_graphsurgeon as gs
import pytest
from hypothesis import given
from hypothesis import strategies as st

from optc.models.model import Model
from optc.passes.analysis.shape_values import ShapeValues
from optc.passes.analysis.shapes import (
    Shape,
    broadcasts_into,
    reshape_target,
    same_data_shape,
    same_shape,
    shape_of,
    static_shape,
)
from optc.passes.analysis.skeleton import skeleton


def test_what_a_tensor_says_of_its_shape() -> None:
    assert shape_of(gs.Variable("a", np.float32, ["N", 3, None, "?", -1])) == ("N", 3, None, None, None)
    assert shape_of(gs.Variable("a")) is None
    assert static_shape(gs.Variable("a", np.float32, [2, 3])) == (2, 3)
    assert static_shape(gs.Variable("a", np.float32, ["N", 3])) is None


@pytest.mark.parametrize(
    ("a", "b", "same", "same_data"),
    [
        ((2, 3), (2, 3), True, True),
        (("N", 3), ("N", 3), True, True),
        (("N", 3), ("M", 3), False, True),
        ((None, 3), (None, 3), False, True),
        ((None, None), (None, None), False, False),
        ((2, 3), (3, 2), False, False),
        ((None, 0), (2, 0), False, False),
        ((2,), (2, 1), False, False),
        (None, (2,), False, False),
    ],
)
def test_equal_shapes(a: Shape | None, b: Shape | None, same: bool, same_data: bool) -> None:
    assert (same_shape(a, b), same_data_shape(a, b)) == (same, same_data)


@pytest.mark.parametrize(
    ("source", "target", "found"),
    [
        ((2, 6), (3, 4), [3, 4]),
        (("N", 6), ("N", 2, 3), [0, 2, 3]),
        (("N", "M", 6), ("N", "M", 2, 3), [0, 0, 2, 3]),
        (("N", 6), (None, 3), [-1, 3]),
        (("N", "M"), ("M", "N"), None),
        (None, ("N", 3), [-1, 3]),
        ((2, 6), None, None),
        ((0, 6), (6, 0), None),  # a 0 would copy
    ],
)
def test_reshape_target(source: Shape | None, target: Shape | None, found: list[int] | None) -> None:
    assert reshape_target(source, target) == found


@given(st.lists(st.integers(1, 3), max_size=3), st.lists(st.integers(1, 3), max_size=3))
def test_broadcasts_into_says_what_numpy_does(small: list[int], big: list[int]) -> None:
    try:
        stays = np.broadcast_shapes(tuple(small), tuple(big)) == tuple(big)
    except ValueError:
        stays = False
    assert broadcasts_into(small, tuple(big)) == stays


def elements(body: str) -> tuple[object, ...] | None:
    """What is known of `y`, computed by `body` from x [N, 3, 4] and an unknown k [2]."""
    text = f"""<ir_version: 10, opset_import: ["": 21]> g (float[N,3,4] x, int64[2] k) => (int64[a] y)
      <int64[1] zero = {{0}}, int64[1] one = {{1}}, int64[1] two = {{2}}, int64 last = {{-1}},
      int64[2] picks = {{2,0}}, int64[1] back = {{-1}},
       int64[1] begin = {{-9}}> {{ s = Shape(x)  {body} }}"""
    graph = Model(onnx.parser.parse_model(text)).view
    values = ShapeValues(lambda tensor: tensor.values)
    values.learn(graph.nodes)
    return values.elements(graph.outputs[0])


@pytest.mark.parametrize(
    ("body", "found"),
    [
        ("y = Identity(s)", ("N", 3, 4)),
        ("y = Shape<start = 1>(x)", (3, 4)),
        ("y = Shape<start = -2, end = -1>(x)", (3,)),
        ("y = Gather(s, picks)", (4, "N")),
        ("a = Gather(s, last)  y = Unsqueeze(a, zero)", (4,)),
        ("y = Slice(s, one, two)", (3,)),
        ("y = Slice(s, back, begin, zero, back)", (4, 3, "N")),
        ("y = Concat<axis = 0>(s, one)", ("N", 3, 4, 1)),
        ("y = Concat<axis = 0>(k, one)", (None, None, 1)),
        ("y = Mul(s, two)", (None, 6, 8)),
        ("y = Mul(one, s)", ("N", 3, 4)),
        ("y = Add(s, one)", (None, 4, 5)),
        ("y = Sub(s, s)", (0, 0, 0)),
        ("y = Div(s, two)", (None, 1, 2)),
        ("y = Div(s, zero)", (None, None, None)),
        ("a = Cast<to = 6>(s)  y = Cast<to = 7>(a)", ("N", 3, 4)),
        ("y = Abs(k)", None),
        ("a = Cast<to = 1>(s)  y = Cast<to = 7>(a)", None),
    ],
)
def test_shape_values(body: str, found: tuple[object, ...] | None) -> None:
    assert elements(body) == found


def test_a_skeleton_has_no_large_tensor_and_the_same_types() -> None:
    proto = onnx.parser.parse_model(
        '<ir_version: 10, opset_import: ["": 21]> g (float[N,2] x) => (float[N,900] y) { y = MatMul(x, w) }'
    )
    proto.graph.initializer.append(onnx.numpy_helper.from_array(np.ones((2, 900), np.float32), "w"))
    for changed in (False, True):
        model = Model(proto)
        if changed:
            model.graph.doc_string = "changed"
        light = skeleton(model)
        assert light.ByteSize() < 300
        dims = onnx.shape_inference.infer_shapes(light, strict_mode=True).graph.output[0]
        assert [d.dim_param or d.dim_value for d in dims.type.tensor_type.shape.dim] == ["N", 900]
