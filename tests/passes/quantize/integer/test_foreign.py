"""Models that ONNX Runtime's own quantizer wrote."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from against_ort import codes_apart, unit_by_unit
from onnxruntime.quantization import CalibrationDataReader, QuantFormat, QuantType, quantize_static

from optc.models.model import Model
from optc.models.session import Session
from optc.passes.quantize.integer.execute import Reference

NETWORK = """<ir_version: 10, opset_import: ["" : 21]> g (float[1,3,8,8] x) => (float[1,4] y) {
    c = Conv <pads=[1,1,1,1]> (x, w1, b1) r = Relu (c) p = MaxPool <kernel_shape=[2,2], strides=[2,2]> (r)
    e = Conv <group=2> (p, w2) s = Add (e, p) k = Concat <axis=1> (s, p)
    a = GlobalAveragePool (k) f = Flatten (a) y = Gemm (f, w3, b3) }"""

SHAPES = {"w1": (4, 3, 3, 3), "b1": (4,), "w2": (4, 2, 1, 1), "w3": (8, 4), "b3": (4,)}


class Reader(CalibrationDataReader):  # type: ignore[misc]
    def __init__(self, samples: np.ndarray) -> None:
        self.samples: Iterator[dict[str, np.ndarray]] = iter([{"x": s[None]} for s in samples])

    def get_next(self) -> dict[str, np.ndarray] | None:
        return next(self.samples, None)


def quantized(folder: Path, **options: Any) -> tuple[Model, dict[str, np.ndarray]]:
    rng = np.random.default_rng(5)
    proto = onnx.parser.parse_model(NETWORK)
    for name, shape in SHAPES.items():
        values = rng.standard_normal(shape).astype(np.float32)
        proto.graph.initializer.append(onnx.numpy_helper.from_array(values, name))
    onnx.save(proto, folder / "float.onnx")
    samples = rng.standard_normal((9, 3, 8, 8)).astype(np.float32)
    activations = {"activation_type": QuantType.QUInt8, "quant_format": QuantFormat.QDQ}
    paths = str(folder / "float.onnx"), str(folder / "quantized.onnx")
    quantize_static(*paths, Reader(samples[:8]), **{**activations, **options})
    return Model.load(folder / "quantized.onnx"), {"x": samples[8:]}


@pytest.mark.parametrize(
    ("options", "endings"),
    [
        ({}, {"Scaled"}),
        ({"per_channel": True}, {"Scaled"}),
        ({"activation_type": QuantType.QInt8}, {"Scaled"}),
        ({"per_channel": True, "extra_options": {"QuantizeBias": False}}, {"Scaled", "Biased"}),
        ({"extra_options": {"AddQDQPairToWeight": True}}, {"Scaled"}),
    ],
)
def test_all_is_integer_and_equals_onnx_runtime(
    tmp_path: Path, options: dict[str, Any], endings: set[str]
) -> None:
    model, feeds = quantized(tmp_path, **options)
    reference = Reference(model)
    assert not reference.program.left
    found = unit_by_unit(model, reference, feeds)
    assert {type(e).__name__ for op in found if (e := getattr(op, "ending", None))} == endings
    for ours, theirs in found.values():
        most, _ = (0, 0) if ours.dtype == np.float32 else codes_apart(ours, theirs)
        assert most <= 1
    assert sum(int((a != b).sum()) for a, b in found.values()) <= 1


@pytest.mark.parametrize(
    ("options", "reason"),
    [
        ({"weight_type": QuantType.QUInt8}, "its weight less its zero point does not fit int8"),
        ({"activation_type": QuantType.QUInt16}, "its codes are uint16, not int8 or uint8"),
        ({"quant_format": QuantFormat.QOperator}, "it is quantized in another form than Q and DQ"),
    ],
)
def test_what_has_no_int8_form_stays_with_its_reason(
    tmp_path: Path, options: dict[str, Any], reason: str
) -> None:
    model, feeds = quantized(tmp_path, **options)
    reference = Reference(model)
    left = {node.reason for node in reference.program.left if "Conv" in node.op}
    assert left == {reason}
    for name, theirs in Session(model).run(feeds).items():
        np.testing.assert_allclose(reference.run(feeds)[name], theirs, atol=0.1)
