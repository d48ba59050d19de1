"""Ranges 16 and 1 against 1 and 1: scales 4 and 1, of which the median, 2, is left out: 2 and 0.5."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest

from optc.models.data import Samples
from optc.models.errors import InputError
from optc.models.model import Model
from optc.models.session import Session
from optc.models.zoo import zoo_entry
from optc.passes.base import Context
from optc.passes.equalize.equalize import Equalize
from optc.passes.pipeline import Pipeline
from optc.passes.registry import parse_passes

PASS = Equalize()
W = "float[2,1,1] w = {16,-1}"
V = "float[1,2,1] v = {-1,1}"
SCALED = "float[2,1,1] w = {8,-2}"
TAKEN = "float[1,2,1] v = {-2,0.5}"


def graph(constants: str, body: str, out: str = "float[1,1,4] y", x: str = "float[1,1,4] x") -> str:
    return f"g ({x}) => ({out}) <{constants}> {{ {body} }}"


def test_two_convolutions(check: Any) -> None:
    body = "a = Conv(x, w, b) r = Relu(a) y = Conv(r, v, c)"
    rest = "float[1] c = {7}"
    check.rewrites(
        PASS,
        graph(f"{W}, {V}, float[2] b = {{4,3}}, {rest}", body),
        graph(f"{SCALED}, {TAKEN}, float[2] b = {{2,6}}, {rest}", body),
    )


def test_matrices_and_an_add_behind(check: Any) -> None:
    body = "a = MatMul(x, w) p = Add(b, a) r = Relu(p) y = Gemm<transB=1>(r, v)"
    sizes = {"x": "float[3,1] x", "out": "float[3,1] y"}
    check.rewrites(
        PASS,
        graph("float[1,2] w = {16,1}, float[2] b = {4,3}, float[1,2] v = {1,1}", body, **sizes),
        graph("float[1,2] w = {8,2}, float[2] b = {2,6}, float[1,2] v = {2,0.5}", body, **sizes),
    )


def test_a_depthwise_convolution_is_reader_and_maker(check: Any) -> None:
    """A chain of three: all of a channel's weights get their geometric mean, up to a factor of the group."""
    body = "a = Conv(x, w) d = Conv<group=2>(a, u) y = Conv(d, v)"
    result = check.run(PASS, graph(f"{W}, float[2,1,1] u = {{4,1}}, {V}", body))
    weights = {t.name: onnx.numpy_helper.to_array(t).ravel() for t in result.graph.initializer}
    ratios = [abs(weights[name][0] / weights[name][1]) for name in ("w", "u", "v")]
    np.testing.assert_allclose(ratios, [4, 4, 4], rtol=5e-3)  # (16 * 4 * 1) ** (1 / 3)


def test_a_grouped_convolution_has_channels_of_its_groups(check: Any) -> None:
    x = "float[1,1,4] x"
    body = "a = Conv(x, w) y = Conv<group=2>(a, v)"
    before = graph("float[4,1,1] w = {16,1,16,1}, float[2,2,1] v = {1,1,1,1}", body, "float[1,2,4] y", x)
    after = graph("float[4,1,1] w = {8,2,8,2}, float[2,2,1] v = {2,0.5,2,0.5}", body, "float[1,2,4] y", x)
    check.rewrites(PASS, before, after)


@pytest.mark.parametrize("group", [1, 2])
def test_transposed_convolutions(check: Any, group: int) -> None:
    rng = np.random.default_rng(group)
    text = graph(
        "float[2] b = {1,2}, float[4] c = {1,2,3,4}",
        f"a = ConvTranspose<group={group}>(x, w, c) r = Relu(a) y = ConvTranspose<group={group}>(r, v, b)",
        "float[1,2,4] y",
        "float[1,4,4] x",
    )
    proto = onnx.parser.parse_model('<ir_version: 10, opset_import: ["": 21]>' + text)
    for name, shape in (("w", (4, 4 // group, 1)), ("v", (4, 2 // group, 1))):
        values = rng.standard_normal(shape) * rng.uniform(0.1, 10, (1, shape[1], 1))
        proto.graph.initializer.append(onnx.numpy_helper.from_array(values.astype(np.float32), name))
    check.run(PASS, onnx.shape_inference.infer_shapes(proto))
    assert check.changed


def test_all_readers_and_all_makers_of_a_sum_share_scales(check: Any) -> None:
    """As in a ResNet: the range of a channel is the largest of its weights."""
    body = "a = Conv(x, w) b = Conv(x, u) s = Add(a, b) r = Relu(s) y = Conv(r, v) z = Conv(r, t)"
    out = "float[1,1,4] y, float[1,1,4] z"
    before = graph(f"{W}, float[2,1,1] u = {{1,1}}, {V}, float[1,2,1] t = {{1,0.25}}", body, out)
    after = graph(f"{SCALED}, float[2,1,1] u = {{0.5,2}}, {TAKEN}, float[1,2,1] t = {{2,0.125}}", body, out)
    check.rewrites(PASS, before, after)


def test_a_layer_around_which_a_sum_goes_meets_itself(check: Any) -> None:
    """Its rows and columns are balanced (Osborne 1960): 16 and 1 become 4 and 4."""
    body = "a = Conv(x, w) l = Conv(a, u) s = Add(a, l) y = Conv(s, v)"
    constants = "float[2,1,1] w = {1,1}, float[2,2,1] u = {0,16, 1,0}, float[1,2,1] v = {1,1}"
    result = check.run(PASS, graph(constants, body))
    weights = {t.name: onnx.numpy_helper.to_array(t).ravel() for t in result.graph.initializer}
    np.testing.assert_allclose(weights["u"], [0, 4, 4, 0], rtol=2e-2)


def test_a_weight_that_two_layers_read_is_copied(check: Any) -> None:
    body = "a = Conv(x, w) b = Conv(x, w) r = Relu(a) y = Conv(r, v) z = Sigmoid(b)"
    result = check.run(PASS, graph(f"{W}, {V}", body, "float[1,1,4] y, float[1,2,4] z"))
    names = [n.input[1] for n in result.graph.node if n.op_type == "Conv"]
    assert names == ["w_1", "w", "v"]
    assert check.changed


def test_one_copy_serves_all_that_scale_alike(check: Any) -> None:
    body = "a = Conv(x, w) b = Conv(x, w) s = Add(a, b) y = Conv(s, v) z = Conv(o, w)"
    out = "float[1,1,4] y, float[1,2,4] z"
    result = check.run(PASS, graph(f"{W}, {V}", body, out, "float[1,1,4] x, float[1,1,4] o"))
    assert [n.input[1] for n in result.graph.node if n.op_type == "Conv"] == ["w_1", "w_1", "v", "w"]


def test_channels_of_zeros_keep_their_scale(check: Any) -> None:
    body = "a = Conv(x, w, b) y = Conv(a, v)"
    constants = "float[4,1,1] w = {16,1,0,5}, float[4] b = {0,0,3,5}, float[1,4,1] v = {1,1,1,0}"
    result = check.run(PASS, graph(constants, body))
    weights = {t.name: onnx.numpy_helper.to_array(t).ravel().tolist() for t in result.graph.initializer}
    assert weights == {"w": [8, 2, 0, 5], "b": [0, 0, 3, 5], "v": [2, 0.5, 1, 0]}


def test_channels_that_want_a_scale_beyond_the_bound_keep_theirs(check: Any) -> None:
    body = "a = Conv(x, w) y = Conv(a, v)"
    constants = "float[3,1,1] w = {16,1,1e-9}, float[1,3,1] v = {1,1,1}"
    result = check.run(PASS, graph(constants, body))
    assert onnx.numpy_helper.to_array(result.graph.initializer[0]).ravel()[2] == np.float32(1e-9)
    assert check.changed


def test_bounds_that_stand_for_infinity_stay_finite(check: Any) -> None:
    largest = "3.4e38"
    body = "a = Conv(x, w) m = Max(a, c) y = Conv(m, v)"
    result = check.run(PASS, graph(f"{W}, {V}, float[2,1] c = {{1,-{largest}}}", body))
    values = {t.name: onnx.numpy_helper.to_array(t).ravel() for t in result.graph.initializer}
    assert values["c"].tolist() == [0.5, -float(np.finfo(np.float32).max)]


@pytest.mark.parametrize("name", ["w", "v", "b"])
def test_constants_that_a_caller_may_override_stay(check: Any, name: str) -> None:
    constants = {"w": f"{W}", "v": f"{V}", "b": "float[2] b = {4,3}"}
    x = "float[1,1,4] x, " + constants[name].split(" =")[0]
    text = graph(", ".join(constants.values()), "a = Conv(x, w, b) r = Relu(a) y = Conv(r, v)", x=x)
    check.run(PASS, text)
    assert not check.changed


def test_nothing_to_gain(check: Any) -> None:
    check.leaves(PASS, graph(f"float[2,1,1] w = {{3,-3}}, {V}", "a = Conv(x, w) r = Relu(a) y = Conv(r, v)"))
    check.leaves(PASS, graph(W, "y = Conv(x, w)", "float[1,2,4] y"))
    check.leaves(PASS, graph("float[2,1] c = {1,2}", "y = Add(x, c)", "float[1,2,4] y"))


def test_facts() -> None:
    text = graph(f"{W}, {V}", "a = Conv(x, w) r = Relu(a) y = Conv(r, v)")
    proto = onnx.parser.parse_model('<ir_version: 10, opset_import: ["": 21]>' + text)
    context = Context()
    PASS.run(Model(onnx.shape_inference.infer_shapes(proto)), context)
    assert context.facts == {
        "groups": 1,
        "channels": 2,
        "largest_scale": pytest.approx(2),
        "unused_bits_before": pytest.approx(1),  # made: 0 and 4 bits, read: none
        "unused_bits_after": pytest.approx(1),  # 0 and 2 bits on either side
    }


def test_one_scale_a_tensor_is_enough_afterwards(tmp_path: Path) -> None:
    """Channels of very different ranges: the codes of one scale a tensor lose most of the small ones."""
    rng = np.random.default_rng(0)
    ranges = 8 ** rng.uniform(-1, 1, 32)
    proto = onnx.parser.parse_model(
        """<ir_version: 10, opset_import: ["": 21]> g (float[N,16] x) => (float[N,8] y) {
        a = Gemm(x, w) r = Relu(a) y = Gemm(r, v) }"""
    )
    arrays = {
        "w": rng.standard_normal((16, 32)) * ranges,
        "v": rng.standard_normal((32, 8)) / ranges[:, None],
    }
    for name, values in arrays.items():
        proto.graph.initializer.append(onnx.numpy_helper.from_array(values.astype(np.float32), name))
    proto = onnx.shape_inference.infer_shapes(proto)
    x = rng.standard_normal((200, 16)).astype(np.float32)
    np.savez(tmp_path / "x.npz", x=x)
    clean, noise = Session(Model(proto)).run({"x": x})["y"], []
    for text in ("quantize{per_channel=false}", "equalize,quantize{per_channel=false}"):
        model = Model(proto)
        Pipeline(parse_passes(text)).run(model, Context(calibration=Samples(tmp_path / "x.npz")))
        noise.append(float(np.square(Session(model).run({"x": x})["y"] - clean).mean()))
    assert noise[1] < noise[0] / 10


NAMED = "[first] a = Conv(x, w) [between] b = Conv(a, u) [last] y = Conv(b, v)"
SQUARE = "float[2,2,1] u = {1,16, 1,1}"


@pytest.mark.parametrize(
    ("text", "changed"),
    [
        ("equalize{layers=[first,between]}", {"w", "u"}),
        ("equalize{skip=first}", {"u", "v"}),
        ("equalize{layers=*,skip=between}", set()),
        ("equalize{layers=last}", set()),
    ],
)
def test_names_choose_groups(text: str, changed: set[str]) -> None:
    before = onnx.parser.parse_model(
        '<ir_version: 10, opset_import: ["": 21]>' + graph(f"{W}, {SQUARE}, {V}", NAMED)
    )
    model = Model(onnx.shape_inference.infer_shapes(before))
    (p,) = parse_passes(text)
    assert p.run(model, Context()) == bool(changed)
    after = {t.name: onnx.numpy_helper.to_array(t) for t in model.to_proto().graph.initializer}
    old = {t.name: onnx.numpy_helper.to_array(t) for t in before.graph.initializer}
    assert {name for name in after if not np.array_equal(after[name], old[name])} == changed


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("equalize{alpha=2.0,method=smooth}", "alpha 2.0 is not from 0 to 1"),
        ("equalize{alpha=0.7}", "alpha is of method=smooth only"),
        ("equalize{copy=true}", "copy is of method=smooth only"),
        ("equalize{samples=0}", "samples 0 is not at least 1"),
        ("equalize{layers=nowhere}", "equalize: no layer matches 'nowhere'; the layers are first, between"),
    ],
)
def test_errors(text: str, message: str) -> None:
    proto = onnx.parser.parse_model(
        '<ir_version: 10, opset_import: ["": 21]>' + graph(f"{W}, {SQUARE}, {V}", NAMED)
    )
    with pytest.raises(InputError, match=message.replace("*", r"\*")):
        parse_passes(text)[0].run(Model(onnx.shape_inference.infer_shapes(proto)), Context())


@pytest.mark.parametrize(
    ("name", "groups"),
    [
        ("fashion-resnet", 7),
        ("mobilenet-v2", 7),  # where no Relu6 stands
        pytest.param("resnet18-v1", 12, marks=pytest.mark.slow),
        pytest.param("unet", 22, marks=pytest.mark.slow),
    ],
)
def test_networks_keep_their_outputs(check: Any, name: str, groups: int) -> None:
    model, context = Model(zoo_entry(name).build()), Context()
    parse_passes("canonicalize")[0].run(model, context)
    check.run(PASS, model.to_proto())
    PASS.run(model, context)
    assert check.changed and context.facts["groups"] == groups
