import re
from pathlib import Path

import numpy as np
import onnx
import pytest
from optimized import fused

from optc.models.data import Samples
from optc.models.errors import InputError
from optc.models.model import Model
from optc.models.session import Session
from optc.models.zoo import zoo_entry
from optc.passes.base import Context
from optc.passes.pipeline import PassError, Pipeline
from optc.passes.quantize.quantize import Quantize
from optc.passes.registry import parse_passes
from optc.passes.text import to_text

CHOICES = [
    {},
    {"activations": "int8"},
    {"scales": "pow2"},
    {"scales": "pow2", "activations": "int8", "residual": "accumulator", "rounding": "half_up"},
    {"residual": "accumulator"},
    {"calibration": "percentile", "percentile": 99.9},
    {"per_channel": False},
]

LAYER = """
<ir_version: 10, opset_import: ["" : 21]>
g (float[N,2] x) => (float[N,2] y)
<float[2,2] w = {1.27, 0.5, -0.635, 1}, float[2] b = {0.5, -1}>
{
    [fc] h = Gemm <transB=1> (x, w, b)
    [act] y = Relu (h)
}
"""


def model_of(text: str, **arrays: np.ndarray) -> Model:
    proto = onnx.parser.parse_model(text)
    for name in arrays:
        proto.graph.initializer.append(onnx.numpy_helper.from_array(arrays[name].astype(np.float32), name))
    onnx.checker.check_model(proto)
    return Model(proto)


def context_of(folder: Path, **arrays: np.ndarray) -> Context:
    np.savez(folder / "calibration.npz", **arrays)
    return Context(calibration=Samples(folder / "calibration.npz"))


def check(model: Model) -> None:
    onnx.checker.check_model(model.to_proto(), full_check=True)
    onnx.shape_inference.infer_shapes(model.to_proto(), check_type=True, strict_mode=True, data_prop=True)


AFTER = """{
    x_quantized = QuantizeLinear (x, x_scale, x_zero_point)
    x_dequantized = DequantizeLinear (x_quantized, x_scale, x_zero_point)
    w_dequantized = DequantizeLinear <axis: int = 0> (w_quantized, w_scale, w_zero_point)
    b_dequantized = DequantizeLinear <axis: int = 0> (b_quantized, b_scale, b_zero_point)
    h = Gemm <transB: int = 1> (x_dequantized, w_dequantized, b_dequantized)
    y_float = Relu (h)
    y_quantized = QuantizeLinear (y_float, y_scale, y_zero_point)
    y = DequantizeLinear (y_quantized, y_scale, y_zero_point)
}"""


def test_before_and_after_as_text(tmp_path: Path) -> None:
    model = model_of(LAYER)
    assert Quantize().run(model, context_of(tmp_path, x=np.eye(2, dtype=np.float32)))
    check(model)
    printed = onnx.printer.to_text(model.to_proto())
    body = re.sub(r"\[[\w]+\] ", "", printed[printed.index(">\n{") + 2 :])
    assert body.split() == AFTER.split()


def test_layer_in_numbers(tmp_path: Path) -> None:
    model = model_of(LAYER)
    x = np.array([[0, 2.55], [1, 0]], np.float32)
    Quantize().run(model, context_of(tmp_path, x=x))
    constants = {t.name: onnx.numpy_helper.to_array(t) for t in model.to_proto().graph.initializer}
    assert constants["x_scale"] == np.float32(0.01) and constants["x_zero_point"].dtype == np.uint8
    assert constants["w_quantized"].tolist() == [[127, 50], [-81, 127]]
    assert constants["w_quantized"].dtype == np.int8
    np.testing.assert_allclose(constants["w_scale"], [0.01, 1 / 127], rtol=1e-6)
    assert (constants["b_scale"] == constants["x_scale"] * constants["w_scale"]).all()
    assert constants["b_quantized"].tolist() == [5000, -12700] and constants["b_quantized"].dtype == np.int32
    assert not constants["b_zero_point"].any() and constants["b_zero_point"].dtype == np.int32


RESIDUAL = """
<ir_version: 10, opset_import: ["" : 21]>
g (float[N,3,16,16] x) => (float[N,5] y) {
    c1 = Conv <pads=[1,1,1,1]> (x, w1, b1)
    r1 = Relu (c1)
    p1 = MaxPool <kernel_shape=[2,2], strides=[2,2]> (r1)
    c2 = Conv <pads=[1,1,1,1]> (p1, w2, b2)
    s = Add (c2, p1)
    r2 = Relu (s)
    c3 = Conv (p1, w3)
    k = Concat <axis=1> (r2, c3)
    c4 = Conv <pads=[1,1,1,1], group=2> (k, w4)
    r4 = Clip (c4, low, high)
    a = AveragePool <kernel_shape=[2,2], strides=[2,2]> (r4)
    m = GlobalAveragePool (a)
    f = Flatten (m)
    y = Gemm <transB=1> (f, w5, b5)
}
"""


def residual(folder: Path) -> tuple[Model, np.ndarray, Context]:
    rng = np.random.default_rng(0)

    def weight(*shape: int) -> np.ndarray:
        return rng.standard_normal(shape) * np.sqrt(2 / np.prod(shape[1:]))

    arrays = {
        "w1": weight(8, 3, 3, 3),
        "b1": rng.standard_normal(8),
        "w2": weight(8, 8, 3, 3),
        "b2": rng.standard_normal(8),
        "w3": weight(8, 8, 1, 1),
        "w4": weight(8, 8, 3, 3),
        "w5": weight(5, 8),
        "b5": rng.standard_normal(5),
        "low": np.array(0),
        "high": np.array(6),
    }
    x = rng.standard_normal((32, 3, 16, 16)).astype(np.float32)
    return model_of(RESIDUAL, **arrays), x, context_of(folder, x=x)


def snr(exact: np.ndarray, found: np.ndarray) -> float:
    return float(10 * np.log10(np.sum(exact**2) / np.sum((exact - found) ** 2)))


@pytest.mark.parametrize("options", CHOICES, ids=str)
def test_network_is_close_to_float_with_optimizations_on_and_off(tmp_path: Path, options: dict) -> None:
    model, x, context = residual(tmp_path)
    exact = Session(model).run({"x": x})["y"]
    assert Quantize(**options).run(model, context)
    check(model)
    assert context.declined == []
    assert model.metadata()["optc.rounding"] == options.get("rounding", "even")
    bound = 15 if options.get("scales") == "pow2" else 22
    for optimize in (False, True):
        assert snr(exact, Session(model, optimize=optimize).run({"x": x})["y"]) > bound


@pytest.mark.parametrize("options", CHOICES, ids=str)
def test_second_run_changes_nothing_and_says_so(tmp_path: Path, options: dict) -> None:
    model, _, context = residual(tmp_path)
    Quantize(**options).run(model, context)
    before = model.to_proto().SerializeToString(deterministic=True)
    again = Context()
    assert not Quantize(**options).run(model, again)
    assert model.to_proto().SerializeToString(deterministic=True) == before
    assert {d.reason for d in again.declined} == {"it is quantized already"}


def test_same_inputs_give_the_same_bytes(tmp_path: Path) -> None:
    written = []
    for _ in range(2):
        model, _, context = residual(tmp_path)
        Quantize().run(model, context)
        written.append(model.to_proto().SerializeToString(deterministic=True))
    assert written[0] == written[1]


def test_onnx_runtime_fuses_everything(tmp_path: Path) -> None:
    model, _, context = residual(tmp_path)
    Quantize().run(model, context)
    operators = fused(model, tmp_path)
    assert operators["QLinearConv"] == 4 and operators["QLinearAdd"] == 1 and operators["QGemm"] == 1
    assert operators["QLinearConcat"] == 1 and operators["QLinearGlobalAveragePool"] == 1
    assert operators["QuantizeLinear"] == operators["DequantizeLinear"] == 1
    assert not {"Conv", "FusedConv", "Gemm", "Add", "Relu", "Clip"} & set(operators)


def test_shared_values_have_one_code(tmp_path: Path) -> None:
    model, _, context = residual(tmp_path)
    Quantize().run(model, context)
    constants = {t.name: onnx.numpy_helper.to_array(t) for t in model.to_proto().graph.initializer}
    for names in (("r1", "p1"), ("m", "f")):
        assert len({constants[f"{n}_scale"].item() for n in names}) == 1
        assert len({constants[f"{n}_zero_point"].item() for n in names}) == 1
    assert constants["a_scale"] != constants["m_scale"]
    assert constants["r2_zero_point"] == 0 < constants["c3_zero_point"]


def test_accumulators_have_no_code(tmp_path: Path) -> None:
    model, _, context = residual(tmp_path)
    Quantize(residual="accumulator").run(model, context)
    nodes = {n.output[0]: n for n in model.to_proto().graph.node}
    add = nodes["s"]
    assert [nodes[i].op_type for i in add.input] == ["Conv", "DequantizeLinear"]


def test_facts(tmp_path: Path) -> None:
    model, _, context = residual(tmp_path)
    Quantize().run(model, context)
    assert context.facts["integer"]["Conv"] == 4 and context.facts["float"] == {}
    assert context.facts["coded_values"] == 12


def test_shared_weight_is_stored_once_where_the_scales_agree(tmp_path: Path) -> None:
    text = """
    <ir_version: 10, opset_import: ["" : 21]>
    g (float[N,2] x) => (float[N,2] y, float[N,4] z) <float[2,2] w = {1, 2, 3, 4}>
    { y = MatMul (x, w) u = MatMul (y, w) z = Concat <axis=1> (u, u) }
    """
    model = model_of(text)
    Quantize().run(model, context_of(tmp_path, x=np.eye(2, dtype=np.float32)))
    check(model)
    graph = model.to_proto().graph
    assert [t.name for t in graph.initializer if "quantized" in t.name] == ["w_quantized"]
    assert sum(n.op_type == "DequantizeLinear" and "w_quantized" in n.input for n in graph.node) == 2


def test_weight_that_a_float_node_reads_too_stays_for_it(tmp_path: Path) -> None:
    text = """
    <ir_version: 10, opset_import: ["" : 21]>
    g (float[N,2] x, int64[M] i) => (float[N,2] y, float[M,2] z) <float[2,2] w = {1, 2, 3, 4}>
    { y = MatMul (x, w) z = Gather (w, i) }
    """
    model = model_of(text)
    x = np.eye(2, dtype=np.float32)
    context = context_of(tmp_path, x=x, i=np.zeros(2, np.int64))
    Quantize().run(model, context)
    z = Session(model).run({"x": x, "i": np.array([1])})["z"]
    assert z.tolist() == [[3, 4]]


def test_names_that_are_taken(tmp_path: Path) -> None:
    text = LAYER.replace("[act] y = Relu (h)", "x_scale = Relu (h) y = Identity (x_scale)")
    model = model_of(text)
    Quantize().run(model, context_of(tmp_path, x=np.eye(2, dtype=np.float32)))
    check(model)


def test_names_that_are_taken_inside_a_subgraph(tmp_path: Path) -> None:
    model = model_of(
        """<ir_version: 10, opset_import: ["" : 21]>
        g (float[N,2] x) => (float[N,2] y, float s)
        <float[2,2] w = {1, 2, 3, 4}, bool c = {1}, float a = {1}> {
            y = MatMul (x, w)
            s = If (c) <
                then_branch = t () => (float w_scale) { w_scale = Neg (a) },
                else_branch = e () => (float x_quantized) { x_quantized = Abs (a) }>
        }"""
    )
    x = np.array([[1, 2], [3, -4]], np.float32)
    assert Quantize().run(model, context_of(tmp_path, x=x))
    check(model)
    Session(model).run({"x": x})


def test_degenerate_layers(tmp_path: Path) -> None:
    model, x, _ = residual(tmp_path)
    for tensor in model.graph.tensors().values():
        if tensor.name in ("w1", "b1"):
            tensor.values = np.zeros_like(tensor.values)  # r1, p1 and c3 are always zero
        if tensor.name == "w2":
            tensor.values = tensor.values * np.float32(1e-20)
    exact = Session(model).run({"x": x})["y"]
    quiet = np.where((x == x.min()) | (x == x.max()), x, np.float32(0))
    for options in CHOICES:
        copy = model.copy()
        Quantize(**options).run(copy, context_of(tmp_path, x=quiet))
        check(copy)
        assert snr(exact, Session(copy).run({"x": x})["y"]) > 15


def test_fixed_batch(tmp_path: Path) -> None:
    model = model_of(LAYER.replace("[N,2]", "[1,2]"))
    assert Quantize().run(model, context_of(tmp_path, x=np.eye(2, dtype=np.float32)))
    check(model)


def test_subgraph_reads_what_the_region_makes(tmp_path: Path) -> None:
    text = """
    <ir_version: 10, opset_import: ["" : 21]>
    g (float[2,2] x) => (float[2,2] y) <float[2,2] w = {1, 2, 3, 4}, bool c = {0}>
    {
        h = Gemm (x, w)  r = Gemm (h, w)
        y = If (c) <then_branch = t () => (float[2,2] a) { a = Relu (h) },
                    else_branch = e () => (float[2,2] b) { b = Relu (r) }>
    }
    """
    proto = onnx.parser.parse_model(text)
    x = np.eye(2, dtype=np.float32)
    model = Model(proto)
    exact = Session(model).run({"x": x})["y"]
    Quantize().run(model, context_of(tmp_path, x=x))
    check(model)
    np.testing.assert_allclose(Session(model).run({"x": x})["y"], exact, rtol=0.02)
    assert "r" in [n.output[0] for n in model.to_proto().graph.node if n.op_type == "Gemm"]


def test_text_round_trip() -> None:
    for options in CHOICES:
        p = Quantize(**options)
        assert parse_passes(to_text([p])) == (p,)


def test_nothing_to_quantize_needs_no_samples() -> None:
    text = """
    <ir_version: 10, opset_import: ["" : 9]>
    g (float[N,2] x) => (float[N,2] y) { y = Softmax (x) }
    """
    model, context = model_of(text), Context()
    assert not Quantize().run(model, context)
    assert [d.reason for d in context.declined] == ["Softmax has no integer form here"]


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"percentile": 101.0}, "percentile 101.0 is not from 50 to 100"),
        ({"percentile": float("nan")}, "percentile nan"),
        ({"samples": 0}, "samples 0 is not at least 1"),
        ({"min_snr": float("nan")}, "min_snr nan"),
        ({"max_drop": float("nan")}, "max_drop nan"),
    ],
)
def test_bad_options(options: dict, message: str) -> None:
    with pytest.raises(InputError, match=message):
        Quantize(**options)


def test_needs_samples_and_a_new_opset() -> None:
    with pytest.raises(PassError, match="pass 'quantize' failed .*--calib") as caught:
        Pipeline((Quantize(),)).run(model_of(LAYER))
    assert caught.value.exit_status == 2
    with pytest.raises(InputError, match="needs opset 13 or later, the model has 12; run canonicalize first"):
        Quantize().run(model_of(LAYER.replace(": 21", ": 12")), Context())


def test_nan_in_a_weight_is_named(tmp_path: Path) -> None:
    model = model_of(LAYER)
    model.graph.tensors()["w"].values = np.full((2, 2), np.nan, np.float32)
    context = context_of(tmp_path, x=np.eye(2, dtype=np.float32))
    with pytest.raises(InputError, match="constant 'w' holds NaN or infinity|makes 'y' NaN"):
        Quantize().run(model, context)


def test_one_model_has_one_rounding(tmp_path: Path) -> None:
    model = model_of(LAYER)
    model.set_metadata("optc.rounding", "half_up")
    with pytest.raises(InputError, match="rounded 'half_up' already; use quantize{rounding=half_up}"):
        Quantize().run(model, context_of(tmp_path, x=np.eye(2, dtype=np.float32)))


def test_bundled_network_keeps_its_accuracy(tmp_path: Path) -> None:
    entry = zoo_entry("fashion-resnet")
    assert entry.calibration and entry.test
    with np.load(entry.test) as data:
        images, labels = data["image"][:500], data["label"][:500]
    (canonicalize,) = parse_passes("canonicalize")
    model = Model(entry.build())
    canonicalize.run(model, Context())

    def accuracy(model: Model) -> float:
        logits = Session(model, optimize=True).run({"image": images})["logits"]
        return float(np.mean(logits.argmax(1) == labels))

    exact = accuracy(model)
    context = Context(calibration=Samples(entry.calibration))
    assert Quantize(samples=100).run(model, context) and context.declined == []
    assert accuracy(model) > exact - 0.01
    assert fused(model, tmp_path)["QLinearConv"] == 11


def test_int8_codes_before_a_slice_run_in_onnx_runtime(tmp_path: Path) -> None:
    """With the Slice left in float, ONNX Runtime 1.32 makes the codes uint8 and refuses its own graph."""
    text = """
    <ir_version: 10, opset_import: ["" : 21]>
    g (float[N,2] x) => (float[N,1] y)
    <float[2,2] w = {1, 2, 3, 4}, int64[1] b = {0}, int64[1] e = {1}, int64[1] a = {1}>
    { h = Gemm (x, w)  r = Gemm (h, w)  s = Slice (h, b, e, a)  t = Slice (r, b, e, a)  y = Add (s, t) }
    """
    model = model_of(text)
    x = np.eye(2, dtype=np.float32)
    exact = Session(model).run({"x": x})["y"]
    Quantize(activations="int8").run(model, context_of(tmp_path, x=x))
    np.testing.assert_allclose(Session(model, optimize=True).run({"x": x})["y"], exact, rtol=0.05)
