"""The bundled network keeps what its README states."""

import math

import numpy as np
import onnx
import onnxruntime as ort
import pytest

from optc.models.zoo import zoo_entry

HITS = 1880  # of the 2,000 bundled test images
NAME = "fashion-resnet"


@pytest.fixture(scope="module")
def model() -> onnx.ModelProto:
    return zoo_entry(NAME).build()


def test_accuracy_is_the_stated_one(model: onnx.ModelProto) -> None:
    data = np.load(zoo_entry(NAME).test)
    assert data["image"].shape == (2000, 1, 28, 28)
    session = ort.InferenceSession(model.SerializeToString(), providers=["CPUExecutionProvider"])
    (logits,) = session.run(None, {"image": data["image"]})
    hits = int((logits.argmax(1) == data["label"]).sum())
    assert abs(hits - HITS) <= 1, "one image for another processor's rounding"


def test_calibration_data_is_other_than_the_test_data() -> None:
    entry = zoo_entry(NAME)
    calibration, test = (np.load(path) for path in (entry.calibration, entry.test))
    assert calibration["image"].shape == (1000, 1, 28, 28)
    assert calibration["image"].dtype == test["image"].dtype == np.float32
    assert calibration["image"].min() == 0 and calibration["image"].max() == 1
    assert set(calibration["label"]) == set(test["label"]) == set(range(10))
    seen = {image.tobytes() for image in calibration["image"]}
    assert not any(image.tobytes() in seen for image in test["image"])


def test_size_limits(model: onnx.ModelProto) -> None:
    parameters = sum(math.prod(tensor.dims) for tensor in model.graph.initializer)
    assert parameters == 116_394
    assert macs(model) == 14_075_008
    assert len(model.SerializeToString()) < 1_000_000


def macs(model: onnx.ModelProto) -> int:
    """Multiply-accumulates of Conv and Gemm for one image."""
    inferred = onnx.shape_inference.infer_shapes(model, strict_mode=True)
    shapes = {
        v.name: [d.dim_value or 1 for d in v.type.tensor_type.shape.dim] for v in inferred.graph.value_info
    }
    shapes |= {
        v.name: [d.dim_value or 1 for d in v.type.tensor_type.shape.dim] for v in inferred.graph.output
    }
    weights = {tensor.name: tensor.dims for tensor in model.graph.initializer}
    return sum(
        math.prod(weights[node.input[1]]) * math.prod(shapes[node.output[0]][2:])
        for node in model.graph.node
        if node.op_type in ("Conv", "Gemm")
    )


def test_structure(model: onnx.ModelProto) -> None:
    onnx.checker.check_model(model, full_check=True)
    ops = [node.op_type for node in model.graph.node]
    assert ops[-3:] == ["GlobalAveragePool", "Flatten", "Gemm"]
    assert ops.count("BatchNormalization") == ops.count("Conv") == 11
    assert ops.count("Add") == 4
    weights = {tensor.name: tensor.dims for tensor in model.graph.initializer}
    widths = {weights[node.input[1]][0] for node in model.graph.node if node.op_type == "Conv"}
    assert widths == {32, 64}
    assert "0 to 1" in model.doc_string
