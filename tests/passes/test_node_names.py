"""New nodes take no name that a node has: ONNX Runtime refuses two of one name."""

import numpy as np
import onnx
import pytest

from optc.models.model import Model
from optc.models.session import Session
from optc.passes.base import Context
from optc.passes.float_ends import with_float_ends
from optc.passes.registry import parse_passes

TEXT = """<ir_version: 10, opset_import: ["" : 21]>
g (float[2,32] x) => (float[2,32] y) { [first] h = Relu (x) [second] y = MatMul (h, w) }"""


def network(name: str) -> Model:
    proto = onnx.parser.parse_model(TEXT.replace("first", name))
    weight = np.random.default_rng(0).standard_normal((32, 32)).astype(np.float32)
    proto.graph.initializer.append(onnx.numpy_helper.from_array(weight, "w"))
    return Model(onnx.shape_inference.infer_shapes(proto))


def made(model: Model, text: str) -> list[Model]:
    (p,) = parse_passes(text)
    assert p.run(model, Context())
    return [model, with_float_ends(model)]


@pytest.mark.parametrize(
    "text", ["convert-floats", "convert-floats{ends=converted}", "quantize-dynamic", "quantize-weights"]
)
def test_names_that_are_taken(text: str) -> None:
    added = {n.name for model in made(network("first"), text) for n in model.view.nodes}
    for name in sorted(added - {"first", "second"}):
        for model in made(network(name), text):
            names = [n.name for n in model.view.nodes]
            assert len(set(names)) == len(names), f"{name}: {names}"
            Session(model)
