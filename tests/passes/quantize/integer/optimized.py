"""What ONNX Runtime makes of a model, optimizations on."""

from __future__ import annotations

from collections import Counter
from pathlib import Path

import onnx
import onnxruntime as ort

from optc.models.model import Model


def fused(model: Model, folder: Path) -> Counter[str]:
    """The operators that are left, by name; `folder` takes the optimized file."""
    options = ort.SessionOptions()
    options.log_severity_level = 4
    options.optimized_model_filepath = str(folder / "optimized.onnx")
    ort.InferenceSession(model.to_proto().SerializeToString(), options, ["CPUExecutionProvider"])
    return Counter(n.op_type for n in onnx.load(folder / "optimized.onnx").graph.node)
