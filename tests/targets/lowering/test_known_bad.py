from __future__ import annotations

import onnx
import pytest

from optc.models.model import Model
from optc.targets.lowering.graph import Graph
from optc.targets.lowering.known_bad import refusals


@pytest.mark.parametrize(
    ("node", "refused"),
    [
        ("y = BatchNormalization <training_mode = 1>(x, s, s, s, s)", True),
        ("y = BatchNormalization(x, s, s, s, s)", False),
        ("y = IsInf <detect_positive = 0>(x)", True),
        ("y = IsInf(x)", False),
        ("y = IsNaN(x)", True),
        ("y = Equal(x, x)", True),
        ("y = Equal(x, z)", False),
        ("y = Mod(x, z)", True),
        ("y = Mod <fmod = 1>(x, z)", False),
        ("y = Mod(k, k)", False),
        ('y = BitShift <direction = "LEFT">(k, k)', True),
        ('y = BitShift <direction = "LEFT">(k, three)', False),
        ('y = BitShift <direction = "LEFT">(k, seventy)', True),
        ("y = ReduceMax(x)", True),
        ("y = ReduceMax(k)", False),
        ('y = SpaceToDepth <blocksize = 2, mode = "CRD">(x)', True),
        ("y = SpaceToDepth <blocksize = 2>(x)", False),
        ("y = Resize(x, , twice)", False),
        ("y = Resize(x, , odd)", True),
        ("y = Resize <antialias = 1>(x, , twice)", True),
        ("y = NonZero(x)", True),
        ("y = Concat <axis = 0>(x, nothing)", True),
        ("y = Loop (three, , x) <body = b (int64 i, bool c, float v) => (bool c, float v) {}>", True),
    ],
)
def test_what_tvm_gets_wrong_and_what_it_gets_right(node: str, refused: bool) -> None:
    text = f"""<ir_version: 8, opset_import: ["": 19]>
    g (float[1,2,4,4] x, float[1,2,4,4] z, float[2] s, uint64[4] k) => (y)
    <float[4] twice = {{1, 1, 2, 0.5}}, float[4] odd = {{1, 1, 1, 0.6}},
     uint64 three = {{3}}, uint64 seventy = {{70}}, float[0,2,4,4] nothing = {{}}> {{ {node} }}"""
    graph = Graph(Model(onnx.parser.parse_model(text)))
    assert (0 in refusals(graph)) == refused
