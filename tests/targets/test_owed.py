from __future__ import annotations

import onnx
import pytest

from optc.models.model import Model
from optc.targets.owed import Distance, distances

CONSTANTS = "<float s = {0.5}, uint8 z = {3}, int8[2,1] w = {2,-3}>"

LAYER = """q = QuantizeLinear (x, s, z) d = DequantizeLinear (q, s, z) wd = DequantizeLinear (w, s)
    m = MatMul (d, wd) mq = QuantizeLinear (m, s, z) v = DequantizeLinear (mq, s, z) """


@pytest.mark.parametrize(
    ("body", "integer", "wanted"),
    [
        ("y = DequantizeLinear (mq, s, z)", range(7), Distance.EQUAL),
        ("y = Erf (v)", range(6), Distance.CLOSE),
        ("e = Erf (v) y = QuantizeLinear (e, s, z)", [*range(6), 7], Distance.APART),
        ("e = Erf (v) y = QuantizeLinear (e, s, z)", range(6), Distance.APART),
        ("y = DequantizeLinear (mq, s, z)", [0, 5, 6], Distance.APART),  # the layer was not lowered
    ],
)
def test_distances(body: str, integer: list[int], wanted: Distance) -> None:
    text = f"""<ir_version: 10, opset_import: ["": 21]> g (float[N,2] x) => (float[N,1] y) {CONSTANTS}
        {{ {LAYER} {body} }}"""
    assert distances(Model(onnx.parser.parse_model(text)), integer) == {"y": wanted}
