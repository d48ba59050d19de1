from typing import Any

import numpy as np
import onnx
import pytest

from optc.models.errors import InputError
from optc.models.model import Model
from optc.passes.base import Context
from optc.passes.pipeline import Pipeline
from optc.passes.prune.prune_channels import PruneChannels
from optc.passes.registry import parse_passes

HEAD = '<ir_version: 10, opset_import: ["": 21]>\n'
TWO_LAYERS = (
    HEAD
    + """g (float[N,2] x) => (float[N,2] y)
<float[2,4] w1 = {1, 9, 2, 8, 1, 9, 2, 8},
float[4] b = {1, 2, 3, 4}, float[4,2] w2 = {1, 2, 3, 4, 5, 6, 7, 8}>
{ [first] h = MatMul (x, w1) a = Add (h, b) [second] y = MatMul (a, w2) }"""
)


def model_of(text: str) -> Model:
    return Model(onnx.shape_inference.infer_shapes(onnx.parser.parse_model(text)))


def run(text: str, **options: Any) -> tuple[Model, Context, bool]:
    model, context = model_of(text), Context(align=1)
    changed = PruneChannels(**options).run(model, context)
    return model, context, changed


def initializers(model: Model) -> dict[str, list[Any]]:
    return {t.name: onnx.numpy_helper.to_array(t).tolist() for t in model.to_proto().graph.initializer}


def test_before_and_after_as_text() -> None:
    model, context, changed = run(TWO_LAYERS, criterion="magnitude")
    assert changed
    # Units 0 and 2 have the smallest weights before and behind them.
    assert initializers(model) == {
        "w1_1": [[9, 8], [9, 8]],
        "b_1": [2, 4],
        "w2_1": [[3, 4], [7, 8]],
    }
    text = onnx.printer.to_text(model.to_proto())
    assert "float[N,2] h, float[N,2] a" in text
    assert context.facts == {"macs": 0.5, "channels": {"first": [4, 2]}}
    assert [(d.where, d.reason) for d in context.declined] == [
        ("second (MatMul)", "its channels stay: it is an output of the model")
    ]


def test_a_second_run_changes_nothing() -> None:
    steps = Pipeline(parse_passes("prune-channels{align=1},prune-channels{align=1}")).run(
        model_of(TWO_LAYERS)
    )
    assert [s.changed for s in steps] == [True, False]


def test_a_smaller_share_goes_on_from_the_first_model() -> None:
    passes = parse_passes("prune-channels{align=1,macs=0.75},prune-channels{align=1,macs=0.5}")
    steps = Pipeline(passes).run(model_of(TWO_LAYERS))
    assert [s.facts["macs"] for s in steps] == [0.75, 0.5]


def test_what_needs_no_pruning_is_left() -> None:
    model, _, changed = run(TWO_LAYERS, macs=1.0)
    assert not changed
    assert not model.changed


@pytest.mark.parametrize("allocation", ["uniform", "global"])
def test_widths_keep_the_multiple(allocation: Any) -> None:
    rng = np.random.default_rng(0)
    proto = onnx.parser.parse_model(
        HEAD
        + """g (float[1,3,8,8] x) => (float[1,5,8,8] y) {
        [a] p = Conv (x, wa) [b] q = Conv (p, wb) [c] y = Conv (q, wc) }"""
    )
    for name, shape in (("wa", (40, 3, 1, 1)), ("wb", (72, 40, 1, 1)), ("wc", (5, 72, 1, 1))):
        values = rng.standard_normal(shape).astype(np.float32)
        proto.graph.initializer.append(onnx.numpy_helper.from_array(values, name))
    model = Model(onnx.shape_inference.infer_shapes(proto))
    context = Context(align=16)
    assert PruneChannels(allocation=allocation).run(model, context)
    assert context.facts["macs"] <= 0.5
    assert all(after % 16 == 0 or after == before for before, after in context.facts["channels"].values())


def test_patterns_choose_and_spare() -> None:
    assert not run(TWO_LAYERS, skip=("fir*",))[2]
    assert run(TWO_LAYERS, layers=("first",))[2]
    assert not run(TWO_LAYERS, layers=("second",))[2]
    for options in ({"layers": ("third",)}, {"skip": ("third",)}):
        with pytest.raises(
            InputError, match="prune-channels: no layer matches 'third'; the layers are first"
        ):
            run(TWO_LAYERS, **options)


@pytest.mark.parametrize(
    ("middle", "reason"),
    [
        ("a = Softmax (h)", "its channels stay: Softmax normalises over it"),
        ('a = Einsum <equation="ij->ij"> (h)', "its channels stay: Einsum cannot be followed"),
        (
            "m = ReduceMean <keepdims=1> (h, axes) a = Sub (h, m)",
            "its channels stay: ReduceMean reduces over it",
        ),
    ],
)
def test_declines_what_it_cannot_follow(middle: str, reason: str) -> None:
    text = TWO_LAYERS.replace("a = Add (h, b)", middle).replace(
        "float[4] b = {1, 2, 3, 4}", "int64[1] axes = {1}"
    )
    _, context, changed = run(text)
    assert not changed
    assert context.declined[0].where == "first (MatMul)"
    assert context.declined[0].reason == reason


def test_sizes_that_are_an_output_stay() -> None:
    text = TWO_LAYERS.replace("=> (float[N,2] y)", "=> (float[N,2] y, int64[2] s)")
    assert text != TWO_LAYERS
    text = text.replace("a = Add (h, b)", "a = Add (h, b) s = Shape (a)")
    _, context, changed = run(text)
    assert not changed
    assert context.declined[0].reason == "its channels stay: Shape: its sizes are an output of the model"


def test_a_model_without_shapes_is_told_what_to_do() -> None:
    model, context = Model(onnx.parser.parse_model(TWO_LAYERS)), Context(align=1)
    assert not PruneChannels().run(model, context)
    reason = "its channels stay: a shape at first is not known (run canonicalize first: it infers shapes)"
    assert [(d.where, d.reason) for d in context.declined][0] == ("first (MatMul)", reason)


def test_says_how_far_it_came() -> None:
    text = TWO_LAYERS.replace(
        "[second] y = MatMul (a, w2)", "[second] y = MatMul (a, w2) [other] z = MatMul (x, w3)"
    )
    text = text.replace("(float[N,2] y)", "(float[N,2] y, float[N,9] z)")
    text = text.replace("float[2,4] w1", f"float[2,9] w3 = {{{', '.join('1' * 18)}}}, float[2,4] w1")
    _, context, changed = run(text)
    assert changed
    assert context.declined[-1].reason == "no more can go: 64.7% of the MACs stay"


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"macs": 0.0}, "macs 0.0 is not above 0 and at most 1"),
        ({"macs": float("nan")}, "macs nan is not above 0"),
        ({"align": 0}, "align 0 is not at least 1"),
        ({"samples": 0}, "samples 0 is not at least 1"),
        ({"criterion": "gut"}, "no criterion 'gut'"),
    ],
)
def test_bad_options(options: dict[str, Any], message: str) -> None:
    with pytest.raises(InputError, match=message):
        PruneChannels(**options)


def test_an_old_opset_and_missing_samples() -> None:
    with pytest.raises(InputError, match="needs opset 13 or later, the model has 11; run canonicalize first"):
        run(TWO_LAYERS.replace('"": 21', '"": 11'))
    for options in ({"repair": "bias"}, {"allocation": "sensitivity"}, {"criterion": "activation"}):
        with pytest.raises(InputError, match="needs calibration samples"):
            run(TWO_LAYERS, **options)


@pytest.mark.parametrize(
    "text",
    [
        "g (float[0,4] x) => (float[0,2] y) <float[4,2] w = {1, 2, 3, 4, 5, 6, 7, 8}> { y = MatMul (x, w) }",
        "g (float[N,0] x) => (float[N,2] y) <float[0,2] w = {}> { y = MatMul (x, w) }",
    ],
)
def test_empty_tensors_are_left(text: str) -> None:
    assert not PruneChannels(align=1).run(Model(onnx.parser.parse_model(HEAD + text)), Context())
