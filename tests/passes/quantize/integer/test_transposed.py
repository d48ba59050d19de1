"""ConvTranspose in integers: the reference against ONNX Runtime's floats, on numbers that are exact there."""

from __future__ import annotations

from typing import Any

import numpy as np
import onnx
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from onnx import TensorProto, helper, numpy_helper

from optc.models.errors import OptcError
from optc.models.model import Model
from optc.models.session import Session
from optc.passes.quantize.integer.execute import Reference
from optc.passes.quantize.integer.ops import Layer
from optc.passes.quantize.integer.recognize import integer_program


def quantized(
    shape: tuple[int, ...], weight: np.ndarray, bias: bool = False, scale: Any = 0.5, **attributes: Any
) -> Model:
    """Codes of scale 1, a ConvTranspose, codes of scale 1, which small numbers do not saturate."""
    constants = {"one": np.float32(1), "z": np.int8(0), "w": weight, "s": np.asarray(scale, np.float32)}
    inputs = ["d", "wd"]
    nodes = [
        helper.make_node("QuantizeLinear", ["x", "one", "z"], ["q"]),
        helper.make_node("DequantizeLinear", ["q", "one", "z"], ["d"]),
        helper.make_node("DequantizeLinear", ["w", "s"], ["wd"], **({"axis": 1} if np.ndim(scale) else {})),
    ]
    if bias:
        out = weight.shape[1] * attributes.get("group", 1)
        constants["b"] = np.arange(out, dtype=np.int32) - 2
        nodes.append(helper.make_node("DequantizeLinear", ["b", "s"], ["bd"], axis=0))
        inputs.append("bd")
    nodes += [
        helper.make_node("ConvTranspose", inputs, ["y"], **attributes),
        helper.make_node("QuantizeLinear", ["y", "one", "z"], ["yq"]),
    ]
    graph = helper.make_graph(
        nodes,
        "g",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, shape)],
        [helper.make_tensor_value_info("yq", TensorProto.INT8, None)],
        [numpy_helper.from_array(np.asarray(v), n) for n, v in constants.items()],
    )
    proto = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 21)], ir_version=10)
    return Model(onnx.shape_inference.infer_shapes(proto))


def assert_as_in_floats(model: Model, shape: tuple[int, ...]) -> None:
    x = {"x": np.random.default_rng(1).integers(-9, 10, shape).astype(np.float32)}
    (layer,) = [o for o in integer_program(model).ops if isinstance(o, Layer)]
    assert layer.window is not None and layer.window.transposed
    wanted = Session(model, optimize=False).run(x)["yq"]
    np.testing.assert_array_equal(Reference(model).run(x)["yq"], wanted)


@st.composite
def attributes(draw: Any, rank: int, sizes: tuple[int, ...]) -> dict[str, Any]:
    strides = [draw(st.integers(1, 4)) for _ in range(rank)]
    kernel = [draw(st.integers(1, 4)) for _ in range(rank)]
    dilations = [draw(st.integers(1, 2)) for _ in range(rank)]
    found: dict[str, Any] = {"strides": strides, "kernel_shape": kernel, "dilations": dilations}
    kind = draw(st.sampled_from(["pads", "pads", "SAME_UPPER", "SAME_LOWER", "VALID", "output_shape"]))
    reach = [(k - 1) * d + 1 for k, d in zip(kernel, dilations, strict=True)]
    if kind == "pads":
        found["pads"] = [draw(st.integers(0, r - 1)) for r in (*reach, *reach)]
        most = [max(s, d) - 1 for s, d in zip(strides, dilations, strict=True)]
        found["output_padding"] = [draw(st.integers(0, m)) for m in most]
    elif kind == "output_shape":
        natural = [(n - 1) * s + r for n, s, r in zip(sizes, strides, reach, strict=True)]
        found["output_shape"] = [draw(st.integers(max(1, n - 3), n)) for n in natural]
    else:
        found["auto_pad"] = kind
    return found


@settings(max_examples=150, deadline=None)
@given(data=st.data(), rank=st.integers(1, 2), group=st.sampled_from([1, 1, 2]), bias=st.booleans())
def test_drawn_attributes(data: Any, rank: int, group: int, bias: bool) -> None:
    sizes = tuple(data.draw(st.integers(1, 6)) for _ in range(rank))
    given_attributes = data.draw(attributes(rank, sizes))
    shape = (2, 2 * group, *sizes)
    rng = np.random.default_rng(0)
    weight = rng.integers(-2, 3, (2 * group, 3, *given_attributes["kernel_shape"])).astype(np.int8)
    model = quantized(shape, weight, bias, group=group, **given_attributes)
    program = integer_program(model)
    if any("larger than what its kernel reaches" in left.reason for left in program.left):
        assert given_attributes.get("auto_pad", "").startswith("SAME")
        return
    try:
        Session(model, optimize=False).run({"x": np.zeros(shape, np.float32)})
    except OptcError:
        return  # an output without elements
    assert_as_in_floats(model, shape)


def test_a_scale_for_each_channel() -> None:
    weight = np.random.default_rng(0).integers(-2, 3, (2, 3, 2, 2)).astype(np.int8)
    shape = (1, 2, 3, 3)
    assert_as_in_floats(quantized(shape, weight, True, [0.5, 1, 2], strides=[2, 2]), shape)


def test_a_batch_of_none() -> None:
    weight = np.ones((2, 3, 2, 2), np.int8)
    model = quantized(("N", 2, 3, 3), weight, strides=[2, 2])  # type: ignore[arg-type]
    assert Reference(model).run({"x": np.zeros((0, 2, 3, 3), np.float32)})["yq"].shape == (0, 3, 6, 6)


@pytest.mark.parametrize(
    ("more", "scale", "reason"),
    [
        ({"group": 2}, [0.5, 1, 2], "it is grouped"),
        ({"auto_pad": "SAME_UPPER", "strides": [5, 5]}, 0.5, "larger than what its kernel reaches"),
    ],
)
def test_what_stays_float(more: dict[str, Any], scale: Any, reason: str) -> None:
    weight = np.ones((2, 3, 2, 2), np.int8)
    program = integer_program(quantized((1, 2, 3, 3), weight, scale=scale, **more))
    assert any(reason in left.reason for left in program.left if left.op == "ConvTranspose")
