from __future__ import annotations

import onnx
import pytest

from optc.models.errors import InputError
from optc.models.model import Model
from optc.passes.base import Context
from optc.passes.bind_shapes import BindShapes

TEXT = """<ir_version: 8, opset_import: ["": 17]>
g (float[N,3,H] x, float[N] z) => (float[N,3,H] y) { t = Relu(x)  y = Neg(t) }"""


def model() -> Model:
    return Model(onnx.shape_inference.infer_shapes(onnx.parser.parse_model(TEXT)))


def test_before_and_after() -> None:
    made = model()
    assert BindShapes(("x=2,3,8",)).run(made, Context())
    proto = onnx.shape_inference.infer_shapes(made.to_proto())
    assert onnx.printer.to_text(proto.graph).split("=>")[0].split("(", 1)[1].strip(" )") == (
        "float[2,3,8] x, float[2] z"
    )
    dims = [d.dim_value for d in proto.graph.value_info[0].type.tensor_type.shape.dim]
    assert dims == [2, 3, 8]


def test_idempotent_and_a_case_that_does_not_match() -> None:
    made = model()
    binding = BindShapes(("x=2,3,8",))
    assert binding.run(made, Context())
    assert not binding.run(made, Context())
    assert not BindShapes(()).run(model(), Context())


@pytest.mark.parametrize(
    ("shape", "message"),
    [
        ("w=1", "no input 'w'; it has x, z"),
        ("x=1,3", "has 3 dimensions"),
        ("x=1,4,8", "3 cannot become 4"),
        ("x=1,a", "not of the form"),
        ("1,2", "not of the form"),
    ],
)
def test_errors(shape: str, message: str) -> None:
    with pytest.raises(InputError, match=message):
        BindShapes((shape,)).run(model(), Context())


def test_a_symbol_with_two_values() -> None:
    with pytest.raises(InputError, match="'N' is both 2 and 3"):
        BindShapes(("x=2,3,8", "z=3")).run(model(), Context())
