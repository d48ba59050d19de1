from typing import Any

import numpy as np
import onnx
import pytest
from onnx import helper, numpy_helper

from optc.models.model import Model
from optc.models.session import Session
from optc.passes.quantize.integer.moves import moved

X = np.arange(24, dtype=np.float32).reshape(2, 3, 4, 1)


@pytest.mark.parametrize(
    ("op", "attributes", "parameters"),
    [
        ("Transpose", {}, []),
        ("Transpose", {"perm": [2, 0, 3, 1]}, []),
        ("Flatten", {}, []),
        ("Flatten", {"axis": 0}, []),
        ("Flatten", {"axis": -1}, []),
        ("Flatten", {"axis": 4}, []),
        ("Reshape", {}, [[0, -1]]),
        ("Reshape", {}, [[4, 0, -1]]),
        ("Squeeze", {}, []),
        ("Squeeze", {}, [[-1]]),
        ("Unsqueeze", {}, [[0, -1]]),
        ("Slice", {}, [[1], [3]]),
        ("Slice", {}, [[-2, 0], [100, -1], [-2, 1]]),
        ("Slice", {}, [[100, -1], [-(2**31), -100], [2, 1], [-1, -2]]),
        ("Slice", {}, [[2, 0], [0, 1], [2, 1], [-1, 1]]),
    ],
)
def test_as_onnx_runtime_moves(op: str, attributes: dict[str, Any], parameters: list[list[int]]) -> None:
    constants = [numpy_helper.from_array(np.array(p, np.int64), f"p{i}") for i, p in enumerate(parameters)]
    graph = helper.make_graph(
        [helper.make_node(op, ["x", *[c.name for c in constants]], ["y"], **attributes)],
        "move",
        [helper.make_tensor_value_info("x", onnx.TensorProto.FLOAT, X.shape)],
        [helper.make_tensor_value_info("y", onnx.TensorProto.FLOAT, None)],
        constants,
    )
    proto = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 21)], ir_version=10)
    ours = moved(op, X, attributes, [np.array(p) for p in parameters])
    np.testing.assert_array_equal(ours, Session(Model(proto)).run({"x": X})["y"])


def test_zeros_in_a_reshape() -> None:
    empty = np.zeros((0, 3))
    assert moved("Reshape", empty, {"allowzero": 1}, [np.array([3, 0])]).shape == (3, 0)
    assert moved("Reshape", empty, {}, [np.array([0, 3])]).shape == (0, 3)
    assert moved("Flatten", empty, {}, []).shape == (0, 3)
