"""What ONNX Runtime's own quantizer makes of a model: the peer of `benchmarks/compression.py`."""

from __future__ import annotations

import contextlib
import io
import logging
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import onnx

from optc.models.data import Samples
from optc.models.model import Model

METHODS = ("MinMax", "Entropy", "Percentile")
ACTIVATIONS = ("QUInt8", "QInt8")


def quantize_static(
    model: Model, samples: Samples, method: str, activations: str, operators: list[str] | None = None
) -> Model:
    """`model` (canonical) by ONNX Runtime's `quantize_static`: QDQ, int8 weights, a scale a channel.

    `operators`: only nodes of these; None: of all that it knows.
    """
    from onnxruntime.quantization import (
        CalibrationDataReader,
        CalibrationMethod,
        QuantFormat,
        QuantType,
        quantize_static,
    )

    class Reader(CalibrationDataReader):  # type: ignore[misc]
        """The calibration samples, one at a time."""

        def __init__(self) -> None:
            names = [t.name for t in model.view.inputs]
            self._batches: Iterator[dict[str, Any]] = iter(samples.batches(names, 1))

        def get_next(self) -> dict[str, Any] | None:
            """The next sample, None at the end."""
            return next(self._batches, None)

    logging.getLogger().setLevel(logging.ERROR)
    with tempfile.TemporaryDirectory() as folder, contextlib.redirect_stdout(io.StringIO()):
        source, target = Path(folder) / "float.onnx", Path(folder) / "int8.onnx"
        model.save(source)
        quantize_static(
            source,
            target,
            Reader(),
            quant_format=QuantFormat.QDQ,
            per_channel=True,
            weight_type=QuantType.QInt8,
            activation_type=QuantType[activations],
            calibrate_method=CalibrationMethod[method],
            op_types_to_quantize=operators,
        )
        return Model(onnx.load(target))
