"""Layers that stay float by name or for want of data, int16, biases corrected, targets that are met."""

from pathlib import Path

import numpy as np
import onnx
import pytest

from optc.models.data import Samples
from optc.models.errors import InputError
from optc.models.model import Model
from optc.models.session import Session
from optc.passes.base import Context
from optc.passes.pipeline import Pipeline
from optc.passes.quantize import mixed
from optc.passes.quantize.quantize import Quantize
from optc.passes.quantize.sensitivity import sensitivities
from optc.passes.quantize.settings import Setting
from optc.passes.registry import parse_passes

CHAIN = """
<ir_version: 10, opset_import: ["" : 21]>
g (float[N,4] x) => (float[N,4] y) {
    [one] a = MatMul (x, w1)  ra = Relu (a)
    [two] b = MatMul (ra, w2)  bb = Add (b, v)  rb = Relu (bb)
    [three] c = MatMul (rb, w3)  rc = Relu (c)
    [four] d = MatMul (rc, w4)  rd = Relu (d)
    [five] e = MatMul (rd, w5)  re = Relu (e)
    [six] y = MatMul (re, w6)
}
"""


def chain(folder: Path, opset: int = 21, dead: bool = False) -> tuple[Model, np.ndarray, Context]:
    """Six layers; the first makes nothing but zeros where `dead`."""
    rng = np.random.default_rng(0)
    proto = onnx.parser.parse_model(CHAIN.replace("21", str(opset)))
    proto.graph.initializer.append(onnx.numpy_helper.from_array(np.ones(4, np.float32), "v"))
    for name in ("w1", "w2", "w3", "w4", "w5", "w6"):
        weight = rng.standard_normal((4, 4)).astype(np.float32)
        weight = np.abs(weight) if name != "w6" else weight
        weight = -weight if dead and name == "w1" else weight
        proto.graph.initializer.append(onnx.numpy_helper.from_array(weight, name))
    x = np.abs(rng.standard_normal((32, 4))).astype(np.float32)
    np.savez(folder / "calibration.npz", x=x)
    return Model(proto), x, Context(calibration=Samples(folder / "calibration.npz"))


def check(model: Model) -> None:
    onnx.checker.check_model(model.to_proto(), full_check=True)
    onnx.shape_inference.infer_shapes(model.to_proto(), check_type=True, strict_mode=True, data_prop=True)


def inputs_of(model: Model) -> dict[str, list[str]]:
    """By layer, the operators that write its inputs."""
    return {
        n.name: [t.inputs[0].op if t.inputs else "" for t in n.inputs]
        for n in model.view.nodes
        if n.op == "MatMul"
    }


def snr(exact: np.ndarray, found: np.ndarray) -> float:
    return float(10 * np.log10(np.sum(exact**2) / np.sum((exact - found) ** 2)))


def after(options: dict, folder: Path) -> tuple[Model, float, Context]:
    """The chain quantized, its signal to noise, and the context with the report."""
    model, x, context = chain(folder)
    exact = Session(model).run({"x": x})["y"]
    assert Quantize(**options).run(model, context)
    check(model)
    return model, snr(exact, Session(model).run({"x": x})["y"]), context


@pytest.mark.parametrize(
    ("options", "float_layers"),
    [
        ({"skip": ("two",)}, ["two"]),
        ({"layers": ("t*", "f*")}, ["one", "six"]),
        ({"layers": ("t*", "f*"), "skip": ("three",)}, ["one", "three", "six"]),
    ],
)
def test_layers_by_name(tmp_path: Path, options: dict, float_layers: list[str]) -> None:
    model, _, context = after(options, tmp_path)
    assert [k for k, v in inputs_of(model).items() if v[1] != "DequantizeLinear"] == float_layers
    reasons = {d.where.split()[0]: d.reason for d in context.declined}
    assert all("name matches" in reasons[name] for name in float_layers)


@pytest.mark.parametrize("option", ["layers", "skip"])
def test_a_pattern_that_matches_nothing(tmp_path: Path, option: str) -> None:
    model, _, context = chain(tmp_path)
    before = model.to_proto().SerializeToString()
    with pytest.raises(InputError, match="no layer matches 'seven'; the layers are one, two, three"):
        Quantize(**{option: ("seven",)}).run(model, context)
    assert model.to_proto().SerializeToString() == before


def test_what_calibration_showed_nothing_of_stays_float(tmp_path: Path) -> None:
    model, x, context = chain(tmp_path, dead=True)
    exact = Session(model).run({"x": -x})["y"]  # beyond what calibration showed
    assert Quantize().run(model, context)
    layers = {k for k, v in inputs_of(model).items() if "DequantizeLinear" in v}
    assert layers == {"three", "four", "five", "six"}
    reasons = {d.where.split()[0]: d.reason for d in context.declined}
    assert reasons["two"] == "calibration showed nothing but zeros of 'ra'"
    assert snr(exact, Session(model).run({"x": -x})["y"]) > -3  # with a code of scale 1 for 'ra': noise


@pytest.mark.parametrize("scale", [1e30, 1e-30])
def test_what_no_scale_reaches_stays_float(tmp_path: Path, scale: float) -> None:
    model, x, _ = chain(tmp_path)
    np.savez(tmp_path / "far.npz", x=x * np.float32(scale))
    exact = Session(model).run({"x": x * np.float32(scale)})["y"]
    context = Context(calibration=Samples(tmp_path / "far.npz"))
    assert Quantize().run(model, context) == (scale < 1)  # 'v' brings what follows back into range
    assert "DequantizeLinear" not in inputs_of(model)["one"]
    found = Session(model).run({"x": x * np.float32(scale)})["y"]
    assert np.array_equal(exact, found) or snr(exact, found) > 30
    reason = next(d.reason for d in context.declined if d.where == "one (MatMul)")
    assert reason.startswith("calibration showed 'x' up to") and "beyond the bounds of scales" in reason


@pytest.mark.parametrize("options", [{"layers": ("t*",)}, {"skip": ("five",)}, {"layers": ("*",)}])
def test_names_of_what_is_integer_already_match(tmp_path: Path, options: dict) -> None:
    model, _, _ = after(options, tmp_path)
    before = model.to_proto().SerializeToString()
    assert not Quantize(**options).run(model, Context())
    assert model.to_proto().SerializeToString() == before


def sparse(folder: Path) -> tuple[Model, Context]:
    """A layer whose weight is stored sparse, and one whose bias is."""
    proto = onnx.parser.parse_model(
        """<ir_version: 10, opset_import: ["" : 20]> g (float[N,2] x) => (float[N,2] y)
        <float[2,2] v = {1, 2, 3, 4}> { [one] h = MatMul (x, w) [two] k = MatMul (h, v) y = Add (k, b) }"""
    )
    for name, dims in (("w", [2, 2]), ("b", [2])):
        values = onnx.numpy_helper.from_array(np.array([5], np.float32), name)
        indices = onnx.numpy_helper.from_array(np.array([1], np.int64))
        proto.graph.sparse_initializer.append(onnx.helper.make_sparse_tensor(values, indices, dims))
    np.savez(folder / "x.npz", x=np.array([[1, 2], [3, -4]], np.float32))
    return Model(proto), Context(calibration=Samples(folder / "x.npz"))


@pytest.mark.parametrize(
    "text",
    [
        "quantize",
        "quantize{weights=learnt}",
        "quantize-weights{weights=learnt}",
        "quantize-dynamic",
        "prune{repair=weights}",
        "prune{repair=bias}",
        "canonicalize",
        "prune-channels{align=1}",
    ],
)
def test_what_is_stored_sparse_stays(tmp_path: Path, text: str) -> None:
    model, context = sparse(tmp_path)
    if "prune" in text:
        context.align = 1
    stored = [s.SerializeToString() for s in model.to_proto().graph.sparse_initializer]
    exact = Session(model).run({"x": np.eye(2, dtype=np.float32)})["y"]
    Pipeline(parse_passes(text)).run(model, context)
    assert [s.SerializeToString() for s in model.to_proto().graph.sparse_initializer] == stored
    found = Session(model).run({"x": np.eye(2, dtype=np.float32)})["y"]
    assert "prune" in text or np.array_equal(exact, found) or snr(exact, found) > 20


def test_nothing_is_left_to_quantize(tmp_path: Path) -> None:
    model, _, context = chain(tmp_path, dead=True)
    before = model.to_proto().SerializeToString()
    assert not Quantize(layers=("two",)).run(model, context)
    assert model.to_proto().SerializeToString() == before
    assert "calibration showed nothing but zeros of 'ra'" in {d.reason for d in context.declined}


def test_int16_codes(tmp_path: Path) -> None:
    model, found, _ = after({"activations": "int16"}, tmp_path)
    _, narrow, _ = after({"activations": "int8"}, tmp_path)
    codes = {n.inputs[2].dtype for n in model.view.nodes if n.op == "QuantizeLinear"}
    assert codes == {np.dtype(np.int16)} and found > narrow + 3
    again = Context()
    assert not Quantize(activations="int16").run(model, again)


@pytest.mark.parametrize("options", [{"activations": "int16"}, {"fallback": "int16", "min_snr": 90.0}])
def test_int16_needs_a_newer_opset(tmp_path: Path, options: dict) -> None:
    model, _, context = chain(tmp_path, opset=20)
    with pytest.raises(InputError, match="int16 needs opset 21 or later, the model has 20"):
        Quantize(**options).run(model, context)


def test_int16_has_no_accumulators() -> None:
    with pytest.raises(InputError, match="use residual=code"):
        Quantize(activations="int16", residual="accumulator")


BIASED = """
<ir_version: 10, opset_import: ["" : 21]>
g (float[N,8] x) => (float[N,4] y) { [fc] h = Gemm (x, w, b)  y = Relu (h) }
"""


def test_a_corrected_bias_takes_in_the_error_of_the_mean(tmp_path: Path) -> None:
    rng = np.random.default_rng(1)
    weight = (rng.standard_normal((8, 4)) * [1, 1, 1, 100]).astype(np.float32)
    proto = onnx.parser.parse_model(BIASED)
    for name, values in (("w", weight), ("b", np.full(4, 50, np.float32))):
        proto.graph.initializer.append(onnx.numpy_helper.from_array(values, name))
    x = (rng.random((64, 8)) + 1).astype(np.float32)  # of a mean far from zero: errors of weights add up
    np.savez(tmp_path / "calibration.npz", x=x)
    errors = {}
    for bias in ("nearest", "corrected"):
        model = Model(onnx.ModelProto.FromString(proto.SerializeToString()))
        exact = Session(model).run({"x": x})["y"]
        context = Context(calibration=Samples(tmp_path / "calibration.npz"))
        # One scale in all: the three small channels are far off.
        Quantize(per_channel=False, bias=bias, layers=("fc",)).run(model, context)
        check(model)
        errors[bias] = np.abs((Session(model).run({"x": x})["y"] - exact).mean(axis=0))[:3].max()
    assert errors["corrected"] < 0.25 * errors["nearest"]


def test_the_fewest_layers_stay_wide_that_reach_the_target(tmp_path: Path) -> None:
    _, plain, _ = after({}, tmp_path)
    target = plain + 2
    model, found, context = after({"min_snr": target}, tmp_path)
    wide = context.facts["wide"]
    assert 0 < len(wide) < 6 and found >= target and context.facts["snr_db"] == pytest.approx(found)
    assert {k for k, v in inputs_of(model).items() if v[1] != "DequantizeLinear"} == set(wide)
    _, fewer, _ = after({"skip": tuple(wide[:-1])}, tmp_path)
    assert fewer < target


def test_outputs_that_are_no_floats_do_not_count(tmp_path: Path) -> None:
    _, plain, _ = after({}, tmp_path)
    text = CHAIN.replace("=> (float[N,4] y)", "=> (float[N,4] y, int64[N,4] rest)")
    # What a long number leaves in a division is another one for the least of errors.
    text = text.replace(
        "y = MatMul (re, w6)",
        "y = MatMul (re, w6) m = Mul (y, k) whole = Cast <to=7> (m) rest = Mod (whole, n)",
    )
    proto = onnx.parser.parse_model(text)
    model, _, context = chain(tmp_path)
    proto.graph.initializer.extend(model.to_proto().graph.initializer)
    for name, number in (("k", np.float32(1000)), ("n", np.int64(7))):
        proto.graph.initializer.append(onnx.numpy_helper.from_array(np.asarray(number), name))
    Quantize(min_snr=plain - 1).run(Model(proto), context)
    assert context.facts["wide"] == [] and context.facts["snr_db"] == pytest.approx(plain)


@pytest.mark.parametrize(
    ("options", "wanted"),
    [
        ({}, Setting("uint8")),
        ({"activations": "int8", "per_channel": False}, Setting("int8", per_channel=False)),
        ({"activations": "int16"}, Setting("int16")),
        ({"scales": "pow2"}, Setting("uint8", pow2=True)),
    ],
)
def test_layers_are_ranked_as_they_are_quantized(
    options: dict, wanted: Setting, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked = []

    def noted(model: Model, context: Context, settings: dict[str, Setting]) -> list:
        asked.extend(settings.values())
        return sensitivities(model, context, settings)

    monkeypatch.setattr(mixed, "sensitivities", noted)
    after({"min_snr": 1.0, **options}, tmp_path)
    assert asked == [wanted]


def test_a_target_that_is_met_anyway_changes_nothing(tmp_path: Path) -> None:
    plain, _, _ = after({}, tmp_path)
    aimed, _, context = after({"min_snr": 1.0}, tmp_path)
    assert plain.to_proto().SerializeToString() == aimed.to_proto().SerializeToString()
    assert context.facts["wide"] == []


def test_worst_layers_in_int16(tmp_path: Path) -> None:
    _, plain, _ = after({}, tmp_path)
    model, found, context = after({"min_snr": plain + 3, "fallback": "int16"}, tmp_path)
    assert context.facts["wide"] and found >= plain + 3
    codes = {n.inputs[2].dtype.name for n in model.view.nodes if n.op == "QuantizeLinear"}
    assert codes == {"uint8", "int16"}
    assert all("DequantizeLinear" in v for v in inputs_of(model).values())


def test_a_target_that_cannot_be_reached(tmp_path: Path) -> None:
    model, _, context = chain(tmp_path)
    before = model.to_proto().SerializeToString()
    with pytest.raises(InputError, match=r"with all layers in int16, the outputs keep \d+.\d dB; lower"):
        Quantize(min_snr=200.0, fallback="int16").run(model, context)
    assert model.to_proto().SerializeToString() == before


def test_a_second_run_leaves_float_what_the_first_left(tmp_path: Path) -> None:
    _, plain, _ = after({}, tmp_path)
    model, _, context = after({"min_snr": plain + 2}, tmp_path)
    before = model.to_proto().SerializeToString()
    for options in ({}, {"min_snr": plain + 2}, {"min_snr": plain + 3}):
        again = Context(calibration=context.calibration)
        assert not Quantize(**options).run(model, again)
        assert model.to_proto().SerializeToString() == before
    assert "it was left float to meet a target" in {d.reason for d in again.declined}
    model.set_metadata("optc.left-float", "{")
    with pytest.raises(InputError, match="'optc.left-float' is damaged; remove it"):
        Quantize().run(model, context)


def test_int16_takes_the_whole_range_whatever_8_bits_take(tmp_path: Path) -> None:
    options = {"min_snr": 55.0, "fallback": "int16", "calibration": "entropy"}
    assert after(options, tmp_path)[1] >= 55


def test_accuracy_as_the_target(tmp_path: Path) -> None:
    from optc.passes.verify.evaluate import Evaluator

    model, x, context = chain(tmp_path)
    labels = Session(model).run({"x": x})["y"].argmax(1)
    np.savez(tmp_path / "test.npz", x=x, label=labels)
    context.evaluate = Evaluator(Samples(tmp_path / "test.npz"))
    assert Quantize(max_drop=0.04, activations="int8", per_channel=False).run(model, context)
    assert context.facts["drop"] <= 0.04
    with pytest.raises(InputError, match="max_drop needs labelled samples: give them with --eval"):
        Quantize(max_drop=0.0).run(chain(tmp_path)[0], chain(tmp_path)[2])
