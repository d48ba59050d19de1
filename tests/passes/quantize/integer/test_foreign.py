"""Models that ONNX Runtime's own quantizer wrote."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from against_ort import codes_apart, unit_by_unit
from foreign import quantized
from onnxruntime.quantization import QuantFormat, QuantType

from optc.models.session import Session
from optc.passes.quantize.integer.execute import Reference


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
