import re
from pathlib import Path

import numpy as np
import onnx
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from optimized import fused

from optc.models.model import Model
from optc.models.session import Session
from optc.passes.pipeline import PassError, Pipeline, Step
from optc.passes.quantize.quantize_dynamic import QuantizeDynamic
from optc.passes.registry import parse_passes
from optc.passes.text import to_text

LAYER = """
<ir_version: 10, opset_import: ["" : 21]>
g (float[N,2] x) => (float[N,2] y)
<float[2,2] w = {1.27, 0.5, -0.635, 1}, float[2] b = {0.5, -1}>
{
    [fc] y = Gemm <transB=1> (x, w, b)
}
"""

AFTER = """{
   x_quantized, x_scale, x_zero_point = DynamicQuantizeLinear (x)
   fc_sums = MatMulInteger (x_quantized, w_quantized, x_zero_point)
   fc_float = Cast <to: int = 1> (fc_sums)
   fc_scale = Mul (x_scale, w_scale)
   fc_product = Mul (fc_float, fc_scale)
   y = Add (fc_product, b)
}"""

SHARED = """
<ir_version: 10, opset_import: ["" : 21]>
g (float[N,5,24] x) => (float[N,5,24] y)
<float[24] b = {BIAS}>
{
    [q] q = MatMul (x, w_q)
    [k] k = MatMul (x, w_k)
    [k2] k2 = Add (k, b)
    [s] s = Mul (q, k2)
    [again] y = MatMul (s, w_q)
}
""".replace("BIAS", ", ".join(str(i / 8) for i in range(24)))


def model_of(text: str, **arrays: np.ndarray) -> Model:
    proto = onnx.parser.parse_model(text)
    for name in arrays:
        proto.graph.initializer.append(onnx.numpy_helper.from_array(arrays[name].astype(np.float32), name))
    onnx.checker.check_model(proto)
    return Model(proto)


def shared_model() -> Model:
    rng = np.random.default_rng(0)
    return model_of(SHARED, w_q=rng.standard_normal((24, 24)), w_k=rng.standard_normal((24, 24)))


def run(model: Model, **options: object) -> Step:
    (step,) = Pipeline((QuantizeDynamic(**options),)).run(model)
    return step


def body(model: Model) -> str:
    text = onnx.printer.to_text(model.to_proto().graph)
    return re.sub(r"\[[^ ]*\] ", "", text[text.index("{\n") :])


def constants(model: Model) -> dict[str, np.ndarray]:
    return {t.name: onnx.numpy_helper.to_array(t) for t in model.to_proto().graph.initializer}


def product(x: np.ndarray, weight: np.ndarray, per_channel: bool = True) -> np.ndarray:
    """What an integer product of `x` by `weight`, [k, m], makes: ONNX's formulas in numpy."""
    low, high = min(x.min(), 0), max(x.max(), 0)
    x_scale = np.float32((np.float32(high) - np.float32(low)) / np.float32(255)) or np.float32(1)
    zero = np.clip(np.rint(-low / x_scale), 0, 255)
    codes = np.clip(np.rint(x / x_scale) + zero, 0, 255).astype(np.int64)
    scale = np.abs(weight).max(axis=0).astype(np.float64) / 127
    scale = np.where(scale > 0, scale, 1).astype(np.float32)
    if not per_channel:
        scale = np.full_like(scale, scale.max())
    integers = np.rint(weight / scale.astype(np.float64)).astype(np.int64)
    sums = (codes - zero.astype(np.int64)) @ integers
    return np.asarray(sums.astype(np.float32) * (x_scale * scale))


def test_before_and_after() -> None:
    model = model_of(LAYER)
    step = run(model)
    assert step.changed
    assert body(model) == AFTER
    found = constants(model)
    assert found["w_quantized"].dtype == np.int8
    assert found["w_quantized"].tolist() == [[127, -81], [50, 127]]  # untransposed
    assert found["w_scale"].tolist() == pytest.approx([0.01, 1 / 127])
    assert step.facts == {
        "quantized": {"Gemm": 1},
        "quantizers": 1,
        "bytes_before": 16,
        "bytes_after": 12,
    }
    onnx.checker.check_model(model.to_proto(), full_check=True)


def test_again_changes_nothing() -> None:
    model = model_of(LAYER)
    run(model)
    assert not run(model).changed


@given(st.data())
@settings(deadline=None, max_examples=30)
def test_runs_as_its_formula_says(data: st.DataObject) -> None:
    rng = np.random.default_rng(data.draw(st.integers(0, 2**32 - 1)))
    rows, k, m = (data.draw(st.integers(1, 40)) for _ in range(3))
    per_channel, transposed, biased = (data.draw(st.booleans()) for _ in range(3))
    weight = rng.standard_normal((k, m)).astype(np.float32) * np.float32(data.draw(st.floats(1e-3, 1e3)))
    x = (rng.standard_normal((rows, k)) + data.draw(st.floats(-3, 3))).astype(np.float32)
    bias = rng.standard_normal(m).astype(np.float32)
    layer = f"y = Gemm <transB={int(transposed)}> (x, w{', b' if biased else ''})"
    text = f'<ir_version: 10, opset_import: ["" : 21]> g (float[N,{k}] x) => (float[N,{m}] y) {{ {layer} }}'
    arrays = {"w": np.ascontiguousarray(weight.T) if transposed else weight}
    model = model_of(text, **arrays, **({"b": bias} if biased else {}))
    run(model, per_channel=per_channel)
    wanted = product(x, weight, per_channel) + (bias if biased else 0)
    reach = np.abs(wanted).max()
    np.testing.assert_allclose(Session(model).run({"x": x})["y"], wanted, rtol=1e-5, atol=1e-5 * reach)


def test_products_share_codes_and_weights(tmp_path: Path) -> None:
    original = shared_model()
    model = original.copy()
    step = run(model)
    assert step.facts["quantized"] == {"MatMul": 3}
    assert step.facts["quantizers"] == 2
    assert step.facts["bytes_after"] == 2 * (24 * 24 + 4 * 24)
    onnx.checker.check_model(model.to_proto(), full_check=True)
    ops = [n.op_type for n in model.to_proto().graph.node]
    assert ops.count("DynamicQuantizeLinear") == 2
    x = np.random.default_rng(1).standard_normal((2, 5, 24)).astype(np.float32)
    wanted, found = (Session(m).run({"x": x})["y"] for m in (original, model))
    assert np.square(found - wanted).sum() < 1e-3 * np.square(wanted).sum()
    assert fused(model, tmp_path) == {
        "DynamicQuantizeLinear": 1,
        "MatMulIntegerToFloat": 2,
        "Mul": 1,
        "DynamicQuantizeMatMul": 1,
    }


def test_a_value_is_quantized_before_its_first_reader() -> None:
    text = """<ir_version: 10, opset_import: ["" : 21]>
    g (float[N,24] x) => (float[N,24] y, float[N,24] z, float[N,24] u)
    { y = MatMul (x, w)  v = Relu (x)  z = MatMul (v, w_other)  u = MatMul (v, w) }"""
    rng = np.random.default_rng(0)
    model = model_of(text, w=rng.standard_normal((24, 24)), w_other=rng.standard_normal((24, 24)))
    run(model)
    onnx.checker.check_model(model.to_proto(), full_check=True)  # the order of nodes too
    assert "v_quantized" in {t for n in model.to_proto().graph.node for t in n.output}


def test_layers_and_skip() -> None:
    assert run(shared_model(), layers=("q", "k"), skip=("k*",)).facts["quantized"] == {"MatMul": 2}
    with pytest.raises(PassError, match="quantize-dynamic: no layer matches 'v'; the layers are q, k"):
        run(shared_model(), layers=("v",))


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("y = MatMul (x, x)", "both its operands are computed"),
        ("y = MatMul (w, x)", "its left operand is a constant"),
        ("y = Gemm <alpha=2.0> (x, w)", "its alpha or beta is not 1, or its input is transposed"),
        ("y = Gemm <transA=1> (x, w)", "its alpha or beta is not 1, or its input is transposed"),
        ("y = MatMul (x, w) z = Relu (w)", "its weight is also read by z (Relu)"),
        ("y = MatMul (x, many)", "it multiplies by more than one matrix"),
        ("y = Conv (x4, many4)", "integer convolutions are slower than float ones in ONNX Runtime"),
    ],
)
def test_declines(text: str, reason: str) -> None:
    head = '<ir_version: 10, opset_import: ["" : 21]> g (float[2,2] x, float[1,1,2,2] x4) => (y) '
    values = (
        "<float[2,2] w = {1, 2, 3, 4}, float[1,2,2] many = {1, 2, 3, 4}, float[1,1,2,2] many4 = {1,2,3,4}>"
    )
    step = run(Model(onnx.parser.parse_model(f"{head}{values} {{ {text} }}")))
    assert not step.changed
    assert [d.reason for d in step.declined] == [reason]


def test_declines_sums_that_could_overflow() -> None:
    text = (
        '<ir_version: 10, opset_import: ["" : 21]> g (float[N,K] x) => (float[N,1] y) { y = MatMul (x, w) }'
    )
    largest = (2**31 - 1) // (255 * 127)
    assert run(model_of(text, w=np.ones((largest, 1)))).changed
    step = run(model_of(text, w=np.ones((largest + 1, 1))))
    assert [d.reason for d in step.declined] == ["its sums could overflow int32"]


def test_errors() -> None:
    text = LAYER.replace("float[2,2] w = {1.27, 0.5, -0.635, 1}, ", "")
    weight = np.array([[np.inf, 1], [2, 3]])
    with pytest.raises(PassError, match="at node fc .*constant 'w' holds NaN or infinity"):
        run(model_of(text, w=weight))
    old = LAYER.replace('"" : 21', '"" : 10')
    with pytest.raises(PassError, match="needs opset 11 or later, the model has 10; run upgrade-opset first"):
        run(model_of(old))


def test_text() -> None:
    text = "quantize-dynamic{per_channel=false,skip=[a,b*]}"
    (found,) = parse_passes(text)
    assert found == QuantizeDynamic(False, skip=("a", "b*"))
    assert to_text([found]) == text
