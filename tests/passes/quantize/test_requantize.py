"""Models that ONNX Runtime's quantizer wrote, in power-of-two codes: by their own ranges, no samples."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from foreign import foreign
from onnxruntime.quantization import QuantType

from optc.models.errors import InputError
from optc.models.model import Model
from optc.models.session import Session
from optc.passes.base import Context
from optc.passes.quantize.integer.execute import Reference
from optc.passes.quantize.integer.ops import Layer, Shifted, Sum, ToAccumulator, ToFloat
from optc.passes.quantize.integer.recognize import integer_program
from optc.passes.quantize.requantize import Requantize
from optc.passes.quantize.strip import strip


def decibels(wanted: np.ndarray, found: np.ndarray) -> float:
    return float(10 * np.log10((wanted**2).sum() / ((wanted - found) ** 2).sum()))


OPTIONS: list[dict[str, Any]] = [
    {},
    {"per_channel": True},
    {"activation_type": QuantType.QInt8},
    {"extra_options": {"QuantizeBias": False}},
    {"extra_options": {"AddQDQPairToWeight": True}},
]


@pytest.mark.parametrize("options", OPTIONS)
def test_all_scales_become_powers_of_two(options: dict[str, Any], tmp_path: Path) -> None:
    floats, model, x = foreign(tmp_path, **options)
    assert Requantize().run(model, Context())
    onnx.checker.check_model(model.to_proto(), full_check=True)
    program = integer_program(model)
    layers = [o for o in program.ops if isinstance(o, Layer)]
    assert [type(o.ending) for o in layers] == [Shifted, ToAccumulator, ToFloat]
    assert all(o.code.dtype == np.int8 and o.code.zero_point == 0 for o in layers)
    assert not any(isinstance(o, Sum) and len(o.terms) == 1 for o in program.ops), "a clamp by itself"
    assert {left.op for left in program.left} <= {"Clip", "Identity"}, "behind the last layer"
    (wanted,), (found,) = Session(floats).run(x).values(), Reference(model).run(x).values()
    assert decibels(wanted, found) > 20


@pytest.mark.parametrize("options", OPTIONS)
def test_stripped_it_is_the_float_model_again(options: dict[str, Any], tmp_path: Path) -> None:
    floats, model, x = foreign(tmp_path, **options)
    (before,) = Session(model, optimize=False).run(x).values()
    ranges = strip(model)
    assert not [n for n in model.view.nodes if n.op in ("QuantizeLinear", "DequantizeLinear")]
    onnx.checker.check_model(model.to_proto(), full_check=True)
    (wanted,), (found,) = Session(floats).run(x).values(), Session(model).run(x).values()
    assert decibels(wanted, found) > 30 and decibels(before, found) > 20
    assert all(low <= 0 <= high for low, high in ranges.values())


SATURATED = """<ir_version: 10, opset_import: ["" : 21]> g (float[1,1,1,4] x) => (float[1,1,1,4] y)
<float one = {1}, uint8 zero = {0}, int8 wz = {0}, int8[1,1,1,1] w = {1}> {
    q = QuantizeLinear (x, one, zero) d = DequantizeLinear (q, one, zero)
    wd = DequantizeLinear (w, one, wz) c = Conv (d, wd)
    cq = QuantizeLinear (c, one, zero) y = DequantizeLinear (cq, one, zero) }"""

STRIPPED = ["Conv", "Clip", "Identity"]


def test_before_and_after() -> None:
    """The Q of the result cuts at 0 and 255, which a Clip says now; the output keeps its name."""
    model = Model(onnx.parser.parse_model(SATURATED))
    assert strip(model) == {"x": (0.0, 255.0), "cq_cut": (0.0, 255.0)}
    assert [n.op for n in model.view.nodes] == STRIPPED
    x = np.array([-5, 7, 250, 300], np.float32).reshape(1, 1, 1, 4)
    np.testing.assert_array_equal(Session(model).run({"x": x})["y"].reshape(-1), [0, 7, 250, 255])


def test_twice_is_once(tmp_path: Path) -> None:
    _, model, x = foreign(tmp_path)
    Requantize().run(model, Context())
    once = Reference(model).run(x)
    Requantize().run(model, Context())
    for name, found in Reference(model).run(x).items():
        np.testing.assert_array_equal(found, once[name])


def test_names_that_are_taken() -> None:
    """ONNX Runtime takes no two nodes of one name."""
    text = SATURATED.replace(
        "(float[1,1,1,4] y)", "(float[1,1,1,4] y, float[1,1,1,4] cq_cut, float[1,1,1,4] cq_low)"
    )
    more = "[y_Identity] cq_cut = Abs (x) [cq_cut_Clip] cq_low = Abs (x) }"
    model = Model(onnx.parser.parse_model(text.replace("cq, one, zero) }", f"cq, one, zero) {more}")))
    strip(model)
    x = np.array([-5, 7, 250, 300], np.float32).reshape(1, 1, 1, 4)
    found = Session(model).run({"x": x})
    np.testing.assert_array_equal(found["y"].reshape(-1), [0, 7, 250, 255])
    np.testing.assert_array_equal(found["cq_cut"], np.abs(x))


def test_a_float_model_is_left_alone(tmp_path: Path) -> None:
    floats, _, _ = foreign(tmp_path)
    before = floats.to_proto().SerializeToString()
    assert not Requantize().run(floats, Context())
    assert floats.to_proto().SerializeToString() == before


def test_a_value_without_a_code(tmp_path: Path) -> None:
    """Only some operators were quantized: for the others samples are asked for."""
    _, model, _ = foreign(tmp_path, op_types_to_quantize=["Gemm"])
    with pytest.raises(InputError, match="--calib"):
        Requantize().run(model, Context())
