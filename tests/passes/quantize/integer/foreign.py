"""A network that ONNX Runtime's own quantizer quantizes."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import onnx
from onnxruntime.quantization import CalibrationDataReader, QuantFormat, QuantType, quantize_static

from optc.models.model import Model

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


def foreign(folder: Path, **options: Any) -> tuple[Model, Model, dict[str, np.ndarray]]:
    """The float model, the quantized one, an input."""
    model, feeds = quantized(folder, **options)
    return Model.load(folder / "float.onnx"), model, feeds
