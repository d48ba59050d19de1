"""BatchNormalizations with epsilon 0, mean 0 and variance 1: `s` is the scale, `b` the shift."""

from __future__ import annotations

from typing import Any

import numpy as np
import onnx
import pytest

from optc.models.model import Model
from optc.models.zoo import zoo_entry
from optc.passes.base import Context
from optc.passes.pipeline import Pipeline
from optc.passes.preactivation.move import LARGEST, MovePreactivation
from optc.passes.registry import parse_passes

PASS = MovePreactivation()
MV = "float[2] m = {0,0}, float[2] v = {1,1}"
PLAIN = f"float[2] s = {{2,4}}, float[2] b = {{1,-2}}, {MV}"
MIXED = f"float[2] s = {{2,-4}}, float[2] b = {{1,-2}}, {MV}"
BELOW = f"float[2] s = {{-2,-4}}, float[2] b = {{1,-2}}, {MV}"
BN = "n = BatchNormalization<epsilon = 0.0>(x, s, b, m, v)"
K1 = "float[1,2,1] w = {1,3}"
K3 = "float[1,2,3] w = {1,2,3, 4,5,6}"
FAINT = BN.replace("s,", "f,")
RELU = f"{BN} r = Relu(n)"
PADDED = "y = Conv<pads=[1,1]>(r, w)"


def graph(constants: str, body: str, out: str = "float[1,1,3] y", x: str = "float[1,2,3] x") -> str:
    return f"g ({x}) => ({out}) <{constants}> {{ {body} }}"


def test_padded_convolution_gets_add_and_relu(check: Any) -> None:
    before = graph(f"{PLAIN}, {K3}", f"{RELU} {PADDED}")
    after = graph(
        "float[2,1] r_add_constant = {0.5,-0.5}, float[1,2,3] w = {2,4,6, 16,20,24}",
        f"r_add = Add(x, r_add_constant) r = Relu(r_add) {PADDED}",
    )
    check.rewrites(PASS, before, after)


def test_unpadded_convolutions_get_max_and_a_bias(check: Any) -> None:
    before = graph(
        f"{PLAIN}, {K1}, float[1,2,1] w2 = {{5,0}}, float[1] b2 = {{9}}",
        f"{RELU} y = Conv(r, w) z = Conv<strides=[2]>(r, w2, b2)",
        "float[1,1,3] y, float[1,1,2] z",
    )
    after = graph(
        """float[2,1] r_max_constant = {-0.5,0.5}, float[1,2,1] w = {2,12}, float[1] y_bias = {-5},
        float[1,2,1] w2 = {10,0}, float[1] b2 = {14}""",
        "r = Max(x, r_max_constant) y = Conv(r, w, y_bias) z = Conv<strides=[2]>(r, w2, b2)",
        "float[1,1,3] y, float[1,1,2] z",
    )
    check.rewrites(PASS, before, after)


def test_one_padded_convolution_decides_for_all(check: Any) -> None:
    body = "y = Conv<pads=[1,1]>(r, w) z = Conv(r, w1)"
    out = "float[1,1,3] y, float[1,1,3] z"
    before = graph(f"{PLAIN}, {K3}, float[1,2,1] w1 = {{1,1}}", f"{RELU} {body}", out)
    after = graph(
        """float[2,1] r_add_constant = {0.5,-0.5}, float[1,2,3] w = {2,4,6, 16,20,24},
        float[1,2,1] w1 = {2,4}""",
        f"r_add = Add(x, r_add_constant) r = Relu(r_add) {body}",
        out,
    )
    check.rewrites(PASS, before, after)


def test_signs_that_differ(check: Any) -> None:
    result = check.run(PASS, graph(f"{MIXED}, {K3}", f"{RELU} {PADDED}"))
    assert [n.op_type for n in result.graph.node] == ["Add", "Max", "Min", "Conv"]
    constants = {t.name: onnx.numpy_helper.to_array(t).ravel().tolist() for t in result.graph.initializer}
    largest = float(np.float32(LARGEST))
    assert constants["r_max_constant"] == [0, -largest] and constants["r_min_constant"] == [largest, 0]
    result = check.run(PASS, graph(f"{MIXED}, {K1}", f"{RELU} y = Conv(r, w)"))
    assert [n.op_type for n in result.graph.node] == ["Max", "Min", "Conv"]


@pytest.mark.parametrize(
    ("weight", "conv", "ops"), [(K1, "y = Conv(r, w)", ["Min"]), (K3, PADDED, ["Add", "Min"])]
)
def test_all_scales_below_zero(check: Any, weight: str, conv: str, ops: list[str]) -> None:
    result = check.run(PASS, graph(f"{BELOW}, {weight}", f"{RELU} {conv}"))
    assert [n.op_type for n in result.graph.node] == [*ops, "Conv"]


@pytest.mark.parametrize("shift", ["1,5", "1,-5"])
@pytest.mark.parametrize(("weight", "conv"), [(K1, "y = Conv(r, w)"), (K3, PADDED)])
def test_a_scale_of_zero_is_a_constant(check: Any, weight: str, conv: str, shift: str) -> None:
    constants = f"float[2] s = {{2,0}}, float[2] b = {{{shift}}}, {MV}, {weight}"
    check.run(PASS, graph(constants, f"{RELU} {conv}"))
    assert check.changed


def test_through_average_pooling_and_flatten_into_a_gemm(check: Any) -> None:
    body = "p = GlobalAveragePool(r) f = Flatten(p) y = Gemm<transB=1>(f, w)"
    out = "float[1,3] y"
    weight = "float[3,2] w = {1,2, 3,4, 5,6}"
    before = graph(f"{PLAIN}, {weight}", f"{RELU} {body}", out)
    after = graph(
        """float[2,1] r_max_constant = {-0.5,0.5}, float[3,2] w = {2,8, 6,16, 10,24},
        float[3] y_bias = {-3,-5,-7}""",
        f"r = Max(x, r_max_constant) {body.replace('w)', 'w, y_bias)')}",
        out,
    )
    check.rewrites(PASS, before, after)


@pytest.mark.parametrize(
    ("body", "ops"),
    [
        ("f = Flatten(r) y = Gemm(f, w6)", ["Max", "Flatten", "Gemm"]),
        ("f = Flatten(r) y = MatMul(f, w6)", ["Add", "Relu", "Flatten", "MatMul"]),  # has no bias
        (
            "p = AveragePool<kernel_shape=[3],pads=[1,1]>(r) y = Conv(p, w)",
            ["Add", "Relu", "AveragePool", "Conv"],
        ),
        ('y = Conv<auto_pad="SAME_UPPER">(r, w3)', ["Add", "Relu", "Conv"]),
        ('y = Conv<auto_pad="SAME_UPPER", strides=[2]>(r, w)', ["Max", "Conv"]),
        ("y = Conv<group=2>(r, g)", ["Max", "Conv"]),
    ],
)
def test_readers(check: Any, body: str, ops: list[str]) -> None:
    constants = f"""{PLAIN}, {K1}, float[6,1] w6 = {{1,2,3,4,5,6}}, float[1,2,3] w3 = {{1,2,3,4,5,6}},
        float[4,1,2] g = {{1,2,3,4,5,6,7,8}}"""
    result = check.run(PASS, graph(constants, f"{RELU} {body}", "float y"))
    assert [n.op_type for n in result.graph.node] == ops


def test_without_a_relu(check: Any) -> None:
    result = check.run(PASS, graph(f"{PLAIN}, {K3}", f"{BN} y = Conv<pads=[1,1]>(n, w)"))
    assert [n.op_type for n in result.graph.node] == ["Add", "Conv"]
    result = check.run(PASS, graph(f"{PLAIN}, {K1}", f"{BN} y = Conv(n, w)"))
    assert [n.op_type for n in result.graph.node] == ["Conv"]


def test_a_weight_that_others_read_is_copied(check: Any) -> None:
    body = f"{RELU} y = Conv(r, w) z = Conv(x, w)"
    result = check.run(PASS, graph(f"{PLAIN}, {K1}", body, "float[1,1,3] y, float[1,1,3] z"))
    assert result.graph.node[2].input[1] == "w" and result.graph.node[1].input[1] != "w"


@pytest.mark.parametrize(
    ("constants", "body", "out", "reason"),
    [
        (K1, f"{RELU} y = Conv(r, w)", "float[1,1,3] y, float[1,2,3] r", "'r' is an output"),
        (K1, f"{RELU} y = Conv(r, w) z = Exp(r)", "float y, float z", "Exp reads it, which is"),
        (K1, f"{RELU} y = Conv(r, w) z = Exp(n)", "float y, float z", "Relu reads it, which is"),
        (K1, f"{RELU} e = Exp(w) y = Conv(r, e)", "float y", "Conv reads it, which is no layer"),
        (K1, f"{RELU} y = Conv(x, r)", "float y", "Conv reads it otherwise than as its first"),
        (
            "float[2,2,1] w = {1,0,0,1}",
            "c = Conv(x, w) " + BN.replace("(x", "(c") + " r = Relu(n) y = Conv(r, w)",
            "float y",
            "it folds into the node before; run canonicalize",
        ),
        (
            "float[3,2] w = {1,0,0,1,1,1}",
            f"{RELU} p = GlobalAveragePool(r) f = Flatten(p) y = Gemm<transB=1, alpha=2.0>(f, w)",
            "float y",
            "a Gemm with alpha, beta or transA reads it",
        ),
        (
            "float[1,2,3] w = {1,2,3,4,5,6}, float[2] f = {0.001,1}",
            f"{FAINT} r = Relu(n) {PADDED}",
            "float y",
            "codes would be coarse",
        ),
        ("float[1,2,1] w = {3e38, 0}", f"{RELU} y = Conv(r, w)", "float y", "overflow the weights"),
    ],
)
def test_what_is_left_says_why(check: Any, constants: str, body: str, out: str, reason: str) -> None:
    check.leaves(PASS, graph(f"{PLAIN}, {constants}", body, out))
    assert [reason in d.reason for d in check.declined] == [True], check.declined


def test_nothing_to_move(check: Any) -> None:
    check.leaves(PASS, graph(K1, "r = Relu(x) y = Conv(r, w)"))
    assert not check.declined


def test_options_are_an_error() -> None:
    with pytest.raises(Exception, match="move-preactivation"):
        parse_passes("move-preactivation{fast=true}")
    assert parse_passes("move-preactivation") == (PASS,)


def test_random_networks_keep_their_outputs(check: Any) -> None:
    rng = np.random.default_rng(3)
    for seed in range(6):
        pads = "" if seed % 2 else ", pads=[1,1,1,1]"
        proto = onnx.parser.parse_model(
            f"""<ir_version: 10, opset_import: ["": 21]> g (float[2,8,5,5] x) => (float y, float z) {{
            {RELU} y = Conv<group=2{pads}>(r, w) z = Conv(r, u, c) }}"""
        )
        arrays = {
            "s": rng.choice([-2, -0.7, -0.3, 0, 0.3, 0.5, 1], 8),
            "b": rng.standard_normal(8) * 3,
            "m": rng.standard_normal(8),
            "v": rng.uniform(0.1, 3, 8),
            "w": rng.standard_normal((6, 4, 3, 3)),
            "u": rng.standard_normal((5, 8, 1, 1)),
            "c": rng.standard_normal(5),
        }
        for name, values in arrays.items():
            proto.graph.initializer.append(onnx.numpy_helper.from_array(values.astype(np.float32), name))
        proto = onnx.shape_inference.infer_shapes(proto)
        check.run(PASS, proto)
        assert check.changed


@pytest.mark.parametrize(("name", "count"), [("resnet18-v2", 10), ("resnet50-v2", 18)])
def test_no_batch_normalization_stays_in_resnet_v2(name: str, count: int) -> None:
    model = Model(zoo_entry(name).build())
    canonicalize, move = parse_passes("canonicalize,move-preactivation")
    canonicalize.run(model, Context())
    before = [n.op for n in model.view.nodes]
    (step,) = Pipeline((move,)).run(model)
    assert step.changed and not step.declined
    assert before.count("BatchNormalization") == count
    assert {n.op for n in model.view.nodes} == set(before) - {"BatchNormalization"} | {"Max"}
