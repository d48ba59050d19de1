import numpy as np
import onnx
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from optc.models.errors import InputError
from optc.models.model import Model
from optc.models.session import Session
from optc.passes.base import Context
from optc.passes.pipeline import Pipeline
from optc.passes.prune.masks import lowest_mask
from optc.passes.prune.prune import Prune
from optc.passes.registry import parse_passes

TWO_LAYERS = """
<ir_version: 10, opset_import: ["" : 21]>
g (float[N,2] x) => (float[N,2] y)
<float[2,4] w1 = {1, -0.5, 3, 0.25, -4, 0.5, 2, 8}, float[4,2] w2 = {10, 20, 30, 40, 50, 60, 70, 80}>
{
    [first] h = MatMul (x, w1)
    [second] y = MatMul (h, w2)
}
"""


def model_of(text: str) -> Model:
    proto = onnx.parser.parse_model(text)
    onnx.checker.check_model(proto)
    return Model(proto)


def values(model: Model) -> dict[str, list[float]]:
    arrays = {t.name: onnx.numpy_helper.to_array(t) for t in model.to_proto().graph.initializer}
    return {name: array.reshape(-1).tolist() for name, array in arrays.items()}


def test_before_and_after_as_text() -> None:
    model = model_of(TWO_LAYERS)
    before = onnx.printer.to_text(model.to_proto())
    assert Prune().run(model, Context())
    after = onnx.printer.to_text(model.to_proto())
    # Of 0.25, 0.5, 0.5, 1 and larger ones the four smallest go; of 10, 20, … 80 the first four.
    before = before.replace("{1,-0.5,3,0.25,-4,0.5,2,8}", "{0,0,3,0,-4,0,2,8}")
    assert before.replace("{10,20,30,40,50,60,70,80}", "{0,0,0,0,50,60,70,80}") == after


def test_equal_scores_go_by_index() -> None:
    model = model_of(TWO_LAYERS)
    Prune(sparsity=0.25).run(model, Context())
    assert values(model)["w1"] == [1, 0, 3, 0, -4, 0.5, 2, 8]


def test_runs_as_the_same_model_with_those_weights_zero() -> None:
    model = model_of(TWO_LAYERS)
    Prune().run(model, Context())
    x = np.arange(6, dtype=np.float32).reshape(3, 2)
    w1 = np.array([0, 0, 3, 0, -4, 0, 2, 8], np.float32).reshape(2, 4)
    w2 = np.array([0, 0, 0, 0, 50, 60, 70, 80], np.float32).reshape(4, 2)
    np.testing.assert_allclose(Session(model).run({"x": x})["y"], x @ w1 @ w2, rtol=1e-6)


def test_facts_report_each_layer_and_all() -> None:
    context = Context()
    Prune(layers=("sec*",)).run(model_of(TWO_LAYERS), context)
    assert context.facts == {
        "sparsity": 0.5,
        "layers": {"second": {"weights": 8, "zeros": 4, "sparsity": 0.5}},
    }


@pytest.mark.parametrize("allocation", ["uniform", "global"])
@pytest.mark.parametrize("amount", ["sparsity=0.3", "macs=0.7"])
def test_second_run_changes_nothing(allocation: str, amount: str) -> None:
    model = model_of(TWO_LAYERS)
    passes = parse_passes(",".join([f"prune{{allocation={allocation},{amount}}}"] * 2))
    steps = Pipeline(passes).run(model)
    assert [s.changed for s in steps] == [True, False]


def test_sparsity_zero_and_no_layers_change_nothing() -> None:
    text = """
    <ir_version: 10, opset_import: ["" : 21]>
    g (float[N] x) => (float[N] y) { y = Relu (x) }
    """
    context = Context()
    assert not Prune().run(model_of(text), context)
    assert context.facts == {"sparsity": 0.0, "layers": {}}
    assert not Prune(sparsity=0).run(model_of(TWO_LAYERS), Context())


def test_shared_weight_is_one_layer() -> None:
    text = """
    <ir_version: 10, opset_import: ["" : 21]>
    g (float[N,2] x) => (float[N,2] y) <float[2,2] w = {1, 2, 3, 4}>
    { [a] h = MatMul (x, w) [b] y = Gemm (h, w) }
    """
    model, context = model_of(text), Context()
    assert Prune().run(model, context)
    assert values(model)["w"] == [0, 0, 3, 4]
    assert list(context.facts["layers"]) == ["a"]


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        (
            """g (float[N,2] x, float[2,2] w) => (float[N,2] y) <float[2,2] w = {1, 2, 3, 4}>
            { [n] y = MatMul (x, w) }""",
            "n (MatMul): its weight is also a graph input, which a caller may override",
        ),
        (
            """g (float[N,2] x) => (float[N,2] y) <int8[2,2] w = {1, 2, 3, 4}, float s = {0.5}, int8 z = {0}>
            { d = DequantizeLinear (w, s, z) [n] y = MatMul (x, d) }""",
            "n (MatMul): its weight is quantized; prune before quantize",
        ),
        (
            "g (float[N,2] x, float[2,2] w) => (float[N,2] y) { [n] y = Gemm (x, w) }",
            "n (Gemm): its weight is computed at run time",
        ),
        (
            """g (float[N,2] x, int64[1] i) => (float[N,2] y, float[1,2] z) <float[2,2] w = {1, 2, 3, 4}>
            { [n] y = MatMul (x, w) [pick] z = Gather (w, i) }""",
            "n (MatMul): its weight is also read by pick (Gather)",
        ),
        (
            """g (bfloat16[N,2] x) => (bfloat16[N,2] y) <bfloat16[2,2] w = {1, 2, 3, 4}>
            { [n] y = MatMul (x, w) }""",
            "n (MatMul): its weight is BFLOAT16; FLOAT16, FLOAT and DOUBLE are pruned",
        ),
        (
            "g (float[N,2] x) => (float[N] y) <float[2] w = {1, 2}> { [n] y = MatMul (x, w) }",
            "n (MatMul): its weight has the shape [2]: no matrix to prune",
        ),
        (
            "g (float[N,0] x) => (float[N,2] y) <float[0,2] w = {}> { [n] y = MatMul (x, w) }",
            "n (MatMul): its weight has the shape [0, 2]: no matrix to prune",
        ),
    ],
)
def test_declines_with_the_reason(text: str, reason: str) -> None:
    model = Model(onnx.parser.parse_model(f'<ir_version: 10, opset_import: ["" : 21]> {text}'))
    context = Context()
    assert not Prune().run(model, context)
    assert [f"{d.where}: {d.reason}" for d in context.declined] == [reason]


def test_two_activations_have_no_weight() -> None:
    text = '<ir_version: 10, opset_import: ["" : 21]> g (float[2,2] a, float[2,2] b) => (float[2,2] y) {'
    context = Context()
    assert not Prune().run(model_of(text + "y = MatMul (a, b) }"), context)
    assert context.declined == []


@pytest.mark.parametrize("sparsity", [1.0, -0.1, float("nan")])
def test_sparsity_out_of_range(sparsity: float) -> None:
    with pytest.raises(InputError, match="sparsity .* is not at least 0 and below 1"):
        Prune(sparsity=sparsity)


def test_pattern_that_matches_nothing_names_the_layers() -> None:
    with pytest.raises(InputError, match=r"no layer matches 'conv\*'; the layers are first, second$"):
        Prune(layers=("first", "conv*")).run(model_of(TWO_LAYERS), Context())


scores = hnp.arrays(
    np.float32, hnp.array_shapes(max_dims=4, max_side=6), elements=st.integers(-3, 3).map(float)
)


@given(scores, st.floats(0, 0.999))
def test_mask_takes_exactly_the_lowest(array: np.ndarray, sparsity: float) -> None:
    mask = lowest_mask(array, sparsity)
    assert mask.shape == array.shape
    order = np.argsort(array.reshape(-1), kind="stable")[: round(sparsity * array.size)]
    assert np.flatnonzero(mask.reshape(-1)).tolist() == sorted(order.tolist())


def test_nan_is_never_among_the_lowest() -> None:
    assert lowest_mask(np.array([np.nan, 2, 1, np.nan]), 0.5).tolist() == [False, True, True, False]
