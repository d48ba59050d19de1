from __future__ import annotations

import re
from pathlib import Path

import numpy as np
import onnx
import pytest

from optc.models.data import Samples
from optc.models.model import Model
from optc.models.session import Session
from optc.passes.base import Context
from optc.passes.quantize.quantize import Quantize
from optc.passes.quantize.region import find_region
from optc.passes.quantize.splits import slice_splits

TEXT = """
<ir_version: 10, opset_import: ["" : {opset}]>
g (float[N,3,4,4] x) => (float[N,4,4,4] y, float[N,2,4,4] s)
<float[6,3,1,1] w, float[2,2,1,1] v, int64[3] sizes = {{2,2,2}}>
{{
    h = Conv (x, w)
    a, b, c = Split <axis = 1{count}> (h{sizes})
    d = Conv (a, v)
    y = Concat <axis = 1> (d, c)
    s = Relu (b)
}}
"""

AFTER = """{
    h = Conv (x, w)
    a = Slice (h, a_starts, a_ends, a_axes)
    b = Slice (h, b_starts, b_ends, b_axes)
    c = Slice (h, c_starts, c_ends, c_axes)
    d = Conv (a, v)
    y = Concat <axis: int = 1> (d, c)
    s = Relu (b)
}"""


def split(sizes: bool = True, count: bool = False, opset: int = 21) -> Model:
    text = TEXT.format(
        opset=opset, sizes=", sizes" if sizes else "", count=", num_outputs = 3" if count else ""
    )
    proto = onnx.parser.parse_model(text)
    del proto.graph.initializer[:]
    rng = np.random.default_rng(0)
    for name, shape in (("w", (6, 3, 1, 1)), ("v", (2, 2, 1, 1))):
        values = rng.normal(size=shape).astype(np.float32)
        proto.graph.initializer.append(onnx.numpy_helper.from_array(values, name))
    proto.graph.initializer.append(onnx.numpy_helper.from_array(np.array([2, 2, 2]), "sizes"))
    onnx.checker.check_model(proto)
    return Model(onnx.shape_inference.infer_shapes(proto, data_prop=True))


def to_text(model: Model) -> str:
    return onnx.printer.to_text(model.to_proto())


X = {"x": np.random.default_rng(1).normal(size=(2, 3, 4, 4)).astype(np.float32)}


def body(model: Model) -> str:
    nodes = onnx.printer.to_text(model.to_proto().graph).partition("{\n")[2]
    return "{" + re.sub(r"\[[^]]*\] |(?<=[a-z0-9])<[^>]*>(?= =)", "", nodes)


@pytest.mark.parametrize(
    ("sizes", "count", "opset"), [(True, False, 21), (False, True, 21), (False, False, 13)]
)
def test_before_and_after(sizes: bool, count: bool, opset: int) -> None:
    model = split(sizes, count, opset)
    before = Session(model).run(X)
    assert slice_splits(model, find_region(model, False))
    assert "".join(body(model).split()) == "".join(AFTER.split())
    onnx.checker.check_model(model.to_proto(), full_check=True)
    for name, found in Session(model).run(X).items():
        np.testing.assert_array_equal(found, before[name])


def test_twice_is_once() -> None:
    model = split()
    slice_splits(model, find_region(model, False))
    once = to_text(model)
    assert not slice_splits(model, find_region(model, False))
    assert to_text(model) == once


def test_a_split_of_floats_stays() -> None:
    """Of what no layer makes or reads."""
    proto = onnx.parser.parse_model("""
<ir_version: 10, opset_import: ["" : 21]>
g (float[N,4] x) => (float[N,2] y, float[N,2] z)
<float[2,2] w = {1, 2, 3, 4}>
{
    e = Erf (x)
    a, z = Split <axis = 1, num_outputs = 2> (e)
    y = MatMul (a, w)
}""")
    model = Model(onnx.shape_inference.infer_shapes(proto))
    before = to_text(model)
    assert not slice_splits(model, find_region(model, False))
    assert to_text(model) == before


def test_the_parts_are_codes(tmp_path: Path) -> None:
    """Quantized: no float operator is left between the first layer and the Concat."""
    np.savez(tmp_path / "samples.npz", **X)
    model = split()
    Quantize().run(model, Context(calibration=Samples(tmp_path / "samples.npz")))
    ops = [n.op for n in model.view.nodes]
    assert "Split" not in ops and ops.count("Slice") == 3
    assert sum(op == "QuantizeLinear" for op in ops) >= 6
    onnx.checker.check_model(model.to_proto(), full_check=True)
