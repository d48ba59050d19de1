from typing import Any

import numpy as np
import onnx
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from optc.models.model import Model
from optc.models.session import Session
from optc.passes.layerwise.linear import Linear, as_linear
from optc.passes.layerwise.moments import Moments, least_squares, moments
from optc.passes.layerwise.rounding import round_with_feedback

Array = NDArray[Any]


def layer(
    op: str, shape: tuple[int, ...], weight: tuple[int, ...], **attributes: Any
) -> tuple[Model, Linear]:
    rng = np.random.default_rng(0)
    values = onnx.numpy_helper.from_array(rng.standard_normal(weight).astype(np.float32), "w")
    kind = onnx.TensorProto.FLOAT
    graph = onnx.helper.make_graph(
        [onnx.helper.make_node(op, ["x", "w"], ["y"], "layer", **attributes)],
        "g",
        [onnx.helper.make_tensor_value_info("x", kind, shape)],
        [onnx.helper.make_tensor_value_info("y", kind, None)],
        [values],
    )
    proto = onnx.helper.make_model(graph, opset_imports=[onnx.helper.make_opsetid("", 21)], ir_version=10)
    model = Model(onnx.shape_inference.infer_shapes(proto))
    linear = as_linear(model.view.nodes[0])
    assert linear is not None
    return model, linear


LAYERS: list[tuple[Any, ...]] = [
    ("Conv", (2, 4, 7, 6), (6, 4, 3, 2), {"pads": [1, 0, 1, 1], "strides": [2, 1]}),
    ("Conv", (2, 4, 7, 6), (6, 2, 3, 3), {"group": 2, "dilations": [2, 1]}),
    ("Conv", (2, 4, 6, 6), (8, 1, 3, 3), {"group": 4, "auto_pad": "SAME_UPPER", "strides": [2, 2]}),
    ("Conv", (2, 3, 9), (5, 3, 4), {}),
    ("Gemm", (5, 4), (4, 3), {}),
    ("Gemm", (4, 5), (3, 4), {"transA": 1, "transB": 1}),
    ("MatMul", (2, 5, 4), (4, 3), {}),
]


@pytest.mark.parametrize(("op", "shape", "weight", "attributes"), LAYERS)
def test_rows_times_matrix_are_the_results(
    op: str, shape: tuple[int, ...], weight: tuple[int, ...], attributes: dict[str, Any]
) -> None:
    model, linear = layer(op, shape, weight, **attributes)
    x = np.random.default_rng(1).standard_normal(shape).astype(np.float32)
    values = model.view.nodes[0].inputs[1].values
    y = Session(model).run({"x": x})["y"]
    matrix = linear.matrix(values)
    np.testing.assert_allclose(linear.rows(x) @ matrix, linear.results(y), rtol=1e-4, atol=1e-5)
    assert np.array_equal(linear.weight(matrix, values.shape), values)


def test_the_weights_that_made_the_results_are_found_again() -> None:
    model, linear = layer("Conv", (4, 2, 12, 12), (3, 2, 3, 3))
    rng = np.random.default_rng(2)
    inputs = [rng.standard_normal((1, 2, 12, 12)).astype(np.float32) for _ in range(4)]
    wanted = [Session(model).run({"x": np.repeat(x, 4, 0)})["y"][:1] + 5 for x in inputs]
    found = moments(linear, inputs, wanted)
    matrix = linear.matrix(model.view.nodes[0].inputs[1].values)
    fitted = least_squares(found, np.zeros((1, 19, 3)), None, 0.0)
    np.testing.assert_allclose(fitted[:, :-1], matrix, atol=1e-4)
    np.testing.assert_allclose(fitted[:, -1], 5, atol=1e-4)


def drawn_moments(rng: np.random.Generator, size: int, outputs: int) -> Moments:
    rows = rng.standard_normal((200, size)) @ rng.standard_normal((size, size))
    rows = np.concatenate([rows + 1, np.ones((200, 1))], axis=1)
    y = rng.standard_normal((200, outputs))
    return Moments((rows.T @ rows)[None] / 200, (rows.T @ y)[None] / 200)


def loss(found: Moments, w: Array) -> float:
    return float(np.sum(w * (found.gram @ w)) - 2 * np.sum(w * found.cross))


@settings(deadline=None, max_examples=30)
@given(st.integers(0, 2**32 - 1), st.integers(1, 6), st.integers(1, 3))
def test_masked_least_squares_is_the_best_on_its_support(seed: int, size: int, outputs: int) -> None:
    rng = np.random.default_rng(seed)
    found = drawn_moments(rng, size, outputs)
    mask = rng.random((1, size, outputs)) < 0.6
    fitted = least_squares(found, np.zeros((1, size + 1, outputs)), mask, 1e-9)
    assert (fitted[:, :-1][~mask] == 0).all()
    for column in range(outputs):
        keep = np.append(mask[0, :, column], True)
        exact = np.linalg.lstsq(found.gram[0][np.ix_(keep, keep)], found.cross[0][keep, column], rcond=None)[
            0
        ]
        best = np.zeros((1, size + 1, 1))
        best[0, keep, 0] = exact
        single = Moments(found.gram, found.cross[:, :, column : column + 1])
        assert loss(single, fitted[:, :, column : column + 1]) <= loss(single, best) + 1e-3


@settings(deadline=None, max_examples=30)
@given(st.integers(0, 2**32 - 1), st.integers(2, 12))
def test_feedback_keeps_limits_and_equals_rounding_without_correlation(seed: int, size: int) -> None:
    rng = np.random.default_rng(seed)
    weights = rng.standard_normal((2, size, 3)) * 3
    scale = np.full((2, 1, 3), 0.02)
    alone = round_with_feedback(weights, np.eye(size)[None] * [[[1.0]], [[2.0]]], scale, -127, 127)
    assert np.array_equal(alone, np.clip(np.rint(weights / scale), -127, 127))


def test_feedback_makes_results_nearer() -> None:
    rng = np.random.default_rng(4)
    rows = rng.standard_normal((500, 8)) @ rng.standard_normal((8, 32))  # 32 inputs, correlated
    covariance = (rows.T @ rows)[None] / 500
    weights = rng.standard_normal((1, 32, 16))
    scale = np.full((1, 1, 16), 0.1)
    wanted = rows @ weights[0]
    nearest = np.mean((rows @ (np.rint(weights / scale) * scale)[0] - wanted) ** 2)
    learnt = np.mean(
        (rows @ (round_with_feedback(weights, covariance, scale, -127, 127) * scale)[0] - wanted) ** 2
    )
    assert learnt < 0.5 * nearest


def test_rounding_with_a_scale_and_bounds_for_each_weight() -> None:
    rng = np.random.default_rng(0)
    weights, covariance = rng.standard_normal((2, 12, 3)), np.diag(np.arange(1.0, 13.0))[None].repeat(2, 0)
    scale = rng.uniform(0.05, 0.3, weights.shape)
    low = rng.integers(-8, 0, weights.shape)
    found = round_with_feedback(weights, covariance, scale, low, low + 9)
    assert np.array_equal(found, np.clip(np.rint(weights / scale), low, low + 9))  # nothing to feed back to
