"""SmoothQuant's scales: of X = (8, 0.5) and W = (2, 0.5), 2 and 1 up to the factor that is left out."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from numpy.typing import NDArray

from optc.models.data import Samples
from optc.models.errors import InputError
from optc.models.model import Model
from optc.models.session import Session
from optc.passes.base import Context
from optc.passes.equalize.equalize import Equalize
from optc.passes.pipeline import PassError, Pipeline
from optc.passes.registry import parse_passes

Arrays = dict[str, NDArray[Any]]
SMOOTH = Equalize(method="smooth")
NORM = "float[2] g = {8,0.5}, float[2] b = {0,0}, float[2,1] v = {2,0.5}"
BODY = "n = LayerNormalization(x, g, b) y = MatMul(n, v)"


def parse(constants: str, body: str, out: str = "float[N,1] y", x: str = "float[N,2] x") -> onnx.ModelProto:
    text = f'<ir_version: 10, opset_import: ["": 21]> g ({x}) => ({out}) <{constants}> {{ {body} }}'
    proto = onnx.parser.parse_model(text)
    onnx.checker.check_model(proto)
    return onnx.shape_inference.infer_shapes(proto)


def samples(folder: Path, **arrays: NDArray[Any]) -> Samples:
    np.savez(folder / "samples.npz", **{k: v.astype(np.float32) for k, v in arrays.items()})  # type: ignore[arg-type]
    return Samples(folder / "samples.npz")


ROWS = np.array([[1, -1], [-1, 1], [3, 1]])  # normalised: 1 and -1, up to epsilon


def smoothed(check: Any, folder: Path, proto: onnx.ModelProto, p: Equalize = SMOOTH, **arrays: Any) -> Arrays:
    """The constants afterwards; outputs must be equal, and a second run must do nothing."""
    data = samples(folder, **(arrays or {"x": ROWS}))
    model, context = Model(proto), Context(calibration=data)
    before = onnx.ModelProto()
    before.CopyFrom(proto)
    changed = p.run(model, context)
    check.declined, check.facts = context.declined, context.facts
    after = model.to_proto()
    assert changed or after == before
    check.changed, check.ops = changed, [n.op_type for n in after.graph.node]
    check.equal_outputs(before, after)
    again = Model(after)
    assert not p.run(again, Context(calibration=data))
    return {t.name: onnx.numpy_helper.to_array(t).ravel() for t in after.graph.initializer}


def test_a_normalization_hands_over_its_range(check: Any, tmp_path: Path) -> None:
    after = smoothed(check, tmp_path, parse(NORM, BODY))
    np.testing.assert_allclose(after["g"], [8 / np.sqrt(2), 0.5 * np.sqrt(2)], rtol=1e-5)
    np.testing.assert_allclose(after["v"], [2 * np.sqrt(2), 0.5 / np.sqrt(2)], rtol=1e-5)


@pytest.mark.parametrize(("alpha", "ratio"), [(1.0, 16), (0.0, 1 / 4), (0.75, 16**0.75 / 4**0.25)])
def test_alpha_says_how_much(check: Any, tmp_path: Path, alpha: float, ratio: float) -> None:
    """`s = max|X| ** alpha / max|W| ** (1 - alpha)`: of the scales, the ratio stays."""
    after = smoothed(check, tmp_path, parse(NORM, BODY), Equalize(method="smooth", alpha=alpha))
    np.testing.assert_allclose(after["v"][0] / 2 / (after["v"][1] / 0.5), ratio, rtol=1e-4)


def test_the_bias_of_a_normalization_is_scaled_too(check: Any, tmp_path: Path) -> None:
    proto = parse(NORM.replace("{0,0}", "{3,-1}"), BODY)
    after = smoothed(check, tmp_path, proto)
    assert check.changed and after["b"][0] < 3 and after["b"][1] < -1


def test_a_normalization_over_two_axes(check: Any, tmp_path: Path) -> None:
    constants = "float[3,2] g = {8,0.5, 4,0.25, 2,0.125}, float[2,1] v = {2,0.5}"
    body = "n = LayerNormalization<axis=-2>(x, g) y = MatMul(n, v)"
    proto = parse(constants, body, "float[N,3,1] y", "float[N,3,2] x")
    after = smoothed(
        check, tmp_path, proto, x=np.array([[[1, -1], [0, 0], [0, 0]], [[-1, 1], [0, 0], [0, 0]]])
    )
    np.testing.assert_allclose(after["g"].reshape(3, 2)[:, 0] / [8, 4, 2], 1 / np.sqrt(2), rtol=1e-5)
    np.testing.assert_allclose(after["v"], [2 * np.sqrt(2), 0.5 / np.sqrt(2)], rtol=1e-5)


def test_all_layers_that_read_a_value_count(check: Any, tmp_path: Path) -> None:
    """Query, key and value: W of the first channel is 2, of the second 8."""
    body = f"{BODY} q = MatMul(n, k) z = Gemm<transB=1>(n, h)"
    constants = f"{NORM}, float[2,1] k = {{1,8}}, float[3,2] h = {{0,1,1,0,1,1}}"
    after = smoothed(check, tmp_path, parse(constants, body, "float[N,1] y, float[N,1] q, float[N,3] z"))
    for name, old in (("v", 4), ("k", 1 / 8)):
        np.testing.assert_allclose(after[name][0] / after[name][1], old * np.sqrt(8 / 0.5 * 8 / 2), rtol=1e-4)


def test_a_normalization_of_single_operators(check: Any, tmp_path: Path) -> None:
    """As exported before opset 17: Mul and Add take the scales in."""
    body = """m = ReduceMean(x, i) d = Sub(x, m) q = Mul(d, d) e = ReduceMean(q, i) s = Sqrt(e) n = Div(d, s)
        t = Mul(g, n) u = Add(t, b) y = MatMul(u, v)"""
    after = smoothed(check, tmp_path, parse(NORM.replace("{0,0}", "{1,1}") + ", int64[1] i = {-1}", body))
    assert check.changed and after["g"][0] < 8 and after["b"][0] < 1 < after["b"][1]


def test_a_convolution_is_a_maker(check: Any, tmp_path: Path) -> None:
    body = "a = Conv(x, w, c) r = Relu(a) y = Conv(r, v)"
    constants = "float[2,1,1] w = {8,0.5}, float[2] c = {0,0}, float[1,2,1] v = {2,0.5}"
    proto = parse(constants, body, "float[N,1,3] y", "float[N,1,3] x")
    after = smoothed(check, tmp_path, proto, x=np.tile([1.0, 0.5, 0.25], (2, 1, 1)))
    np.testing.assert_allclose(after["w"], [8 / np.sqrt(2), 0.5 * np.sqrt(2)], rtol=1e-5)


def test_a_channel_that_is_always_zero_keeps_its_scale(check: Any, tmp_path: Path) -> None:
    body = "a = Conv(x, w, c) r = Relu(a) y = Conv(r, v)"
    constants = "float[3,1,1] w = {8,0.5,-4}, float[3] c = {0,0,0}, float[1,3,1] v = {2,0.5,1}"
    proto = parse(constants, body, "float[N,1,3] y", "float[N,1,3] x")
    after = smoothed(check, tmp_path, proto, x=np.tile([1.0, 0.5, 0.25], (2, 1, 1)))
    assert after["w"][2] == -4 and after["v"][2] == 1 and check.changed


SUM = "n = LayerNormalization(x, g, b) a = MatMul(n, v) s = Add(a, n) y = LayerNormalization(s, h, b)"
AFTER_SUM = "float[2] h = {1,2}, float[2] g = {8,0.5}, float[2] b = {0,0}, float[2,2] v = {2,1,0.5,0.5}"


def test_a_sum_blocks_a_normalization(check: Any, tmp_path: Path) -> None:
    smoothed(check, tmp_path, parse(AFTER_SUM, SUM, "float[N,2] y"))
    assert not check.changed
    assert [d.where for d in check.declined] == [
        "n (LayerNormalization)",
        "a (MatMul)",
        "y (LayerNormalization)",
    ]
    assert "LayerNormalization takes no scales" in check.declined[0].reason


def test_a_copy_frees_the_layers(check: Any, tmp_path: Path) -> None:
    p = Equalize(method="smooth", copy=True)
    after = smoothed(check, tmp_path, parse(AFTER_SUM, SUM, "float[N,2] y"), p)
    assert check.changed and check.facts["groups"] == 1
    assert check.ops == ["LayerNormalization", "LayerNormalization", "MatMul", "Add", "LayerNormalization"]
    assert after["g"].tolist() == [8, 0.5]
    np.testing.assert_allclose(after["v"], np.array([2, 1, 0.5, 0.5]) * np.sqrt([2, 2, 0.5, 0.5]), rtol=1e-5)


@pytest.mark.parametrize("options", [{"skip": ("n",)}, {"skip": ("a",)}, {"layers": ("y",)}])
def test_names_say_what_is_copied(check: Any, tmp_path: Path, options: dict[str, tuple[str, ...]]) -> None:
    p = Equalize(method="smooth", copy=True, **options)  # type: ignore[arg-type]
    smoothed(check, tmp_path, parse(AFTER_SUM, SUM, "float[N,2] y"), p)
    assert not check.changed


def test_an_output_of_the_model_is_copied_too(check: Any, tmp_path: Path) -> None:
    proto = parse(NORM, BODY, "float[N,1] y, float[N,2] n")
    after = smoothed(check, tmp_path, proto, Equalize(method="smooth", copy=True))
    assert check.ops == ["LayerNormalization", "LayerNormalization", "MatMul"] and after["v"][0] > 2


def test_what_a_copy_does_not_free_is_not_copied(check: Any, tmp_path: Path) -> None:
    """One scale for both channels cannot take two."""
    proto = parse(NORM.replace("float[2] g = {8,0.5}", "float[1] g = {8}"), BODY)
    smoothed(check, tmp_path, proto, Equalize(method="smooth", copy=True))
    assert not check.changed and "repeats an operand" in check.declined[0].reason


def test_a_free_normalization_is_not_copied(check: Any, tmp_path: Path) -> None:
    smoothed(check, tmp_path, parse(NORM, BODY), Equalize(method="smooth", copy=True))
    assert check.ops == ["LayerNormalization", "MatMul"]


def test_errors(tmp_path: Path) -> None:
    proto = parse(NORM, BODY)
    with pytest.raises(InputError, match=r"equalize\{method=smooth\} needs calibration samples: give them"):
        SMOOTH.run(Model(proto), Context())
    wrong = samples(tmp_path, x=np.array([[np.nan, 1.0]]))
    with pytest.raises(PassError, match="pass 'equalize' failed.*holds NaN"):
        Pipeline((SMOOTH,)).run(Model(proto), Context(calibration=wrong))


def test_nothing_to_smooth_needs_no_samples() -> None:
    proto = parse("float[2,1] v = {1,2}", "y = MatMul(x, v)")
    assert not SMOOTH.run(Model(proto), Context())


def test_codes_of_the_smoothed_values_are_finer(tmp_path: Path) -> None:
    """One channel is a hundred times as large: without smoothing, 8 bits hold little of the others."""
    rng = np.random.default_rng(0)
    gain = np.ones(16)
    gain[3] = 100
    proto = onnx.parser.parse_model(
        """<ir_version: 10, opset_import: ["": 21]> g (float[N,16] x) => (float[N,8] y) {
        n = LayerNormalization(x, g) y = MatMul(n, v) }"""
    )
    weights = rng.standard_normal((16, 8)) / gain[:, None]
    for name, values in (("g", gain), ("v", weights)):
        proto.graph.initializer.append(onnx.numpy_helper.from_array(values.astype(np.float32), name))
    proto = onnx.shape_inference.infer_shapes(proto)
    x = rng.standard_normal((200, 16)).astype(np.float32)
    context = Context(calibration=samples(tmp_path, x=x))
    clean = Session(Model(proto)).run({"x": x})["y"]
    noise = []
    for text in ("quantize", "equalize{method=smooth},quantize"):
        model = Model(proto)
        Pipeline(parse_passes(text)).run(model, context)
        noise.append(float(np.square(Session(model).run({"x": x})["y"] - clean).mean()))
    assert noise[1] < noise[0] / 10
