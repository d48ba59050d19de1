from __future__ import annotations

from typing import Any

import numpy as np
import onnx
import pytest

from optc.models.errors import InputError
from optc.targets.feeds import check_arrays, inputs_of, outputs_of

TEXT = """<ir_version: 8, opset_import: ["": 17]>
g (float[N,2] a, int64[N] b, string[?] s, float c, float[2] w) => (float[] y) <float[2] w = {1, 2}>
{ y = Add(a, w) }"""


def specs() -> Any:
    return inputs_of(onnx.parser.parse_model(TEXT).graph)


def feeds(**changes: Any) -> dict[str, Any]:
    found = {
        "a": np.zeros((3, 2), np.float32),
        "b": np.zeros(3, np.int64),
        "s": np.array(["x"]),
        "c": np.float32(1),
    }
    return {k: v for k, v in (found | changes).items() if v is not None}


def test_what_a_graph_takes_and_gives() -> None:
    assert [(s["name"], s["dtype"], s["shape"]) for s in specs()] == [
        ("a", "float32", ["N", 2]),
        ("b", "int64", ["N"]),
        ("s", "object", [None]),
        ("c", "float32", []),
    ]
    assert outputs_of(onnx.parser.parse_model(TEXT).graph)[0]["shape"] is None


def test_a_sequence_has_no_dtype() -> None:
    text = (
        '<ir_version: 8, opset_import: ["": 17]> g (seq(float[N]) x) => (int64 y) { y = SequenceLength(x) }'
    )
    assert inputs_of(onnx.parser.parse_model(text).graph)[0]["dtype"] is None


def test_arrays_that_fit() -> None:
    check_arrays(specs(), feeds())


@pytest.mark.parametrize(
    ("changes", "text"),
    [
        ({"d": np.zeros(1)}, "no input 'd'; it takes a, b, s, c"),
        ({"b": None}, r"no array for the input 'b'; give one of shape \[N\]"),
        ({"a": np.zeros((3, 2))}, "'a' takes float32, not float64"),
        ({"s": np.zeros(1)}, "'s' takes object, not float64"),
        ({"a": np.zeros((3, 4), np.float32)}, r"'a' takes shape \[N, 2\], the array has \[3, 4\]"),
        ({"c": np.zeros(1, np.float32)}, r"'c' takes shape \[\], the array has \[1\]"),
        ({"b": np.zeros(4, np.int64)}, r"'b' takes shape \[N\], the array has \[4\] \(where N = 3\)"),
    ],
)
def test_arrays_that_do_not(changes: dict[str, Any], text: str) -> None:
    with pytest.raises(InputError, match=text):
        check_arrays(specs(), feeds(**changes))
