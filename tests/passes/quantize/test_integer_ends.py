"""Codes at the ends of a quantized model, and that it still is fed, verified and scored as floats."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import onnx
import pytest

from optc.models.data import Samples
from optc.models.errors import InputError
from optc.models.model import Model
from optc.models.session import Session
from optc.passes.base import Context
from optc.passes.float_ends import CODES, decoded, encoded, with_float_ends
from optc.passes.pipeline import Pipeline
from optc.passes.quantize.integer_ends import IntegerEnds
from optc.passes.verify.evaluate import Evaluator
from optc.passes.verify.feeds import Feeds
from optc.passes.verify.watcher import VerifyWatcher

BEFORE = """<ir_version: 10, opset_import: ["" : 21]> g (float[N,2] x) => (float[N,1] y)
<float s = {0.1}, uint8 z = {3}, float t = {0.7}, int8 o = {-4}, int8[2,1] w = {2, -3}> {
q = QuantizeLinear (x, s, z) d = DequantizeLinear (q, s, z) wd = DequantizeLinear (w, s)
m = MatMul (d, wd) mq = QuantizeLinear (m, t, o) y = DequantizeLinear (mq, t, o) }"""

AFTER = """<ir_version: 10, opset_import: ["" : 21]> g (uint8[N,2] x) => (int8[N,1] y)
<float s = {0.1}, uint8 z = {3}, float t = {0.7}, int8 o = {-4}, int8[2,1] w = {2, -3}> {
d = DequantizeLinear (x, s, z) wd = DequantizeLinear (w, s) m = MatMul (d, wd)
y = QuantizeLinear (m, t, o) }"""

X = np.random.default_rng(0).uniform(-5, 30, (50, 2)).astype(np.float32)


def changed(text: str, p: IntegerEnds | None = None) -> tuple[Model, Context, bool]:
    model, context = Model(onnx.parser.parse_model(text)), Context()
    done = (p or IntegerEnds()).run(model, context)
    onnx.checker.check_model(model.to_proto(), full_check=True)
    return model, context, done


def text(proto: onnx.ModelProto) -> str:
    """The graph without the types of inner values and the order of constants."""
    graph = onnx.GraphProto.FromString(proto.graph.SerializeToString())
    del graph.value_info[:]
    tensors = sorted(
        (onnx.numpy_helper.to_array(t).tolist(), t.name) for t in graph.initializer if t.name != "w"
    )
    del graph.initializer[:]
    for node in graph.node:
        node.name = ""
    return str(onnx.printer.to_text(graph)) + str(tensors)


def test_before_and_after() -> None:
    model, context, done = changed(BEFORE)
    assert done and not context.declined and context.facts == {"changed": ["x", "y"]}
    assert text(model.to_proto()) == text(onnx.parser.parse_model(AFTER))
    assert json.loads(model.metadata()[CODES]) == {
        "x": {"dtype": "uint8", "scale": 0.1, "zero_point": 3},
        "y": {"dtype": "int8", "scale": 0.7, "zero_point": -4},
    }


def test_once_more_changes_nothing() -> None:
    model, _, _ = changed(BEFORE)
    before = model.to_proto().SerializeToString()
    assert not IntegerEnds().run(model, Context())
    assert model.to_proto().SerializeToString() == before


@pytest.mark.parametrize(("inputs", "outputs", "names"), [(True, False, ["x"]), (False, True, ["y"])])
def test_options(inputs: bool, outputs: bool, names: list[str]) -> None:
    model, context, _ = changed(BEFORE, IntegerEnds(inputs, outputs))
    assert context.facts == {"changed": names} and not context.declined


def test_the_outputs_are_the_same_through_the_codes() -> None:
    model, _, _ = changed(BEFORE)
    (wanted,) = Session(Model(onnx.parser.parse_model(BEFORE))).run({"x": X}).values()
    floats = with_float_ends(model)
    onnx.checker.check_model(floats.to_proto(), full_check=True)
    assert CODES not in floats.metadata() and CODES in model.metadata()
    assert with_float_ends(floats) is floats
    np.testing.assert_array_equal(Session(floats).run({"x": X})["y"], wanted)
    feeds = encoded(model, {"x": X})
    assert feeds["x"].dtype == np.uint8
    codes = Session(model).run(feeds)
    assert codes["y"].dtype == np.int8
    np.testing.assert_array_equal(decoded(model, codes)["y"], wanted)


@pytest.mark.parametrize("scale", [0.1, 0.003921569, 1.1754944e-38 * 2**70, 3.0e-5 / 7])
def test_the_scale_is_exact(scale: float) -> None:
    model, _, _ = changed(BEFORE.replace("{0.1}", f"{{{np.float32(scale)!s}}}"))
    (scale_of_q,) = [n.inputs[1].values for n in with_float_ends(model).view.nodes if n.inputs[0].name == "x"]
    assert scale_of_q == np.float32(scale)


DECLINED = [
    ("q = QuantizeLinear (x, s, z)", "q = QuantizeLinear (x, s, z) r = Relu(x)", "x (the input)", "x alone"),
    (
        "y = DequantizeLinear (mq, t, o)",
        "k = DequantizeLinear (mq, t, o) y = Relu(k)",
        "y (the output)",
        "y (Relu)",
    ),
    ("=> (float[N,1] y)", "=> (float[N,1] y, uint8[N,2] q)", "x (the input)", "its codes are an output"),
    ("=> (float[N,1] y)", "=> (float[N,1] y, int8[N,1] mq)", "y (the output)", "another output"),
]


@pytest.mark.parametrize(("old", "new", "where", "why"), DECLINED)
def test_ends_of_another_form_stay(old: str, new: str, where: str, why: str) -> None:
    model, context, done = changed(BEFORE.replace(old, new))
    assert done, "the other end changes"
    (declined,) = context.declined
    assert declined.where == where and why.replace("x alone", "r (Relu)") in declined.reason
    ours = Model(onnx.parser.parse_model(BEFORE.replace(old, new)))
    wanted, found = Session(ours).run({"x": X}), Session(with_float_ends(model)).run({"x": X})
    assert list(wanted) == list(found)
    for name in wanted:
        np.testing.assert_array_equal(found[name], wanted[name])


def test_codes_straight_through_and_a_float_model() -> None:
    model, context, done = changed(
        """<ir_version: 10, opset_import: ["" : 21]> g (float[N,2] x) => (float[N,2] y)
        <float s = {0.1}, uint8 z = {3}> { q = QuantizeLinear (x, s, z) y = DequantizeLinear (q, s, z) }"""
    )
    assert done and [d.where for d in context.declined] == ["y (the output)"]
    model, context, done = changed(
        """<ir_version: 10, opset_import: ["" : 21]> g (float[N] x) => (float[N] y) { y = Relu(x) }"""
    )
    assert not done and len(context.declined) == 2 and CODES not in model.metadata()


def test_an_output_that_is_read_inside_too() -> None:
    more = BEFORE.replace("(float[N,1] y)", "(float[N,1] y, float[N,1] u)").replace(
        "y = Deq", "u = Relu(y) y = Deq"
    )
    more = more.replace(
        "u = Relu(y) y = DequantizeLinear (mq, t, o)", "y = DequantizeLinear (mq, t, o) u = Relu(y)"
    )
    model, _, done = changed(more)
    assert done
    wanted = Session(Model(onnx.parser.parse_model(more))).run({"x": X})
    found = Session(with_float_ends(model)).run({"x": X})
    for name in ("y", "u"):
        np.testing.assert_array_equal(found[name], wanted[name])


def test_verified_scored_and_fed_as_floats(tmp_path: Path) -> None:
    np.savez(tmp_path / "x.npz", x=X, label=np.zeros(len(X), np.int64))
    samples = Samples(tmp_path / "x.npz")
    model = Model(onnx.parser.parse_model(BEFORE))
    evaluate = Evaluator(samples, "mse")
    before = evaluate(model)
    watcher = VerifyWatcher(Feeds(samples=samples), evaluate)
    Pipeline((IntegerEnds(), IntegerEnds())).run(model, watchers=[watcher])
    assert [r.changed for r in watcher.rows] == [False, True, False]
    assert watcher.rows[1].max_error == 0
    assert evaluate(model) == before and evaluate.score(model, Session(model).run) == before
    feeds = Feeds(given={"x": X})
    feeds.fit(model, Session(model))
    assert feeds.arrays[0]["x"].dtype == np.uint8
    feeds = Feeds(given={"x": encoded(model, {"x": X})["x"]})
    feeds.fit(model, Session(model))
    feeds = Feeds()
    feeds.fit(model, Session(model))
    assert feeds.arrays[0]["x"].dtype == np.uint8


def test_a_pass_that_broke_it_would_be_found(monkeypatch: pytest.MonkeyPatch) -> None:
    """The watcher sees through the codes: a wrong scale is a broken contract."""
    from optc.models.errors import CheckError
    from optc.passes.quantize import integer_ends

    def wrong(model: Model, ends: object) -> None:
        model.set_metadata(CODES, json.dumps({"x": {"dtype": "uint8", "scale": 0.2, "zero_point": 3}}))

    monkeypatch.setattr(integer_ends, "note_ends", wrong)
    model = Model(onnx.parser.parse_model(BEFORE))
    with pytest.raises(CheckError, match="integer-ends"):
        Pipeline((IntegerEnds(outputs=False),)).run(model, watchers=[VerifyWatcher(Feeds(given={"x": X}))])


@pytest.mark.parametrize(
    "entry", ["[]", "{", '{"x": {"dtype": "int4", "scale": 1, "zero_point": 0}}', '{"x": {}}']
)
def test_a_damaged_entry(entry: str) -> None:
    model, _, _ = changed(BEFORE)
    model.set_metadata(CODES, entry)
    with pytest.raises(InputError, match="its metadata entry 'optc.codes' is damaged"):
        with_float_ends(model)


def test_an_entry_that_fits_no_more_does_not_count() -> None:
    model = Model(onnx.parser.parse_model(BEFORE))
    model.set_metadata(
        CODES, '{"x": {"dtype": "uint8", "scale": 1, "zero_point": 0}, "gone": {"dtype": "float16"}}'
    )
    assert with_float_ends(model) is model
