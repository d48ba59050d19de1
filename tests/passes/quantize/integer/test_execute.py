from collections import Counter
from pathlib import Path

import numpy as np
import onnx
import pytest
from against_ort import codes_apart, unit_by_unit
from graphs import Network, networks
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from optc.models.data import Samples
from optc.models.errors import InputError
from optc.models.model import Model
from optc.models.session import Session
from optc.models.zoo import zoo_entry
from optc.passes.base import Context
from optc.passes.quantize.integer.execute import Reference, run_reference
from optc.passes.quantize.quantize import Quantize
from optc.passes.registry import parse_passes

CONSTANTS = """float half = {0.5}, float one = {1}, float two = {2}, uint8 z = {3}, uint8 z0 = {0},
 int8[2,1] w = {2,-3}, int8[1,1,3] wc = {1,2,3}, int32[1] b = {5}, float[1] bf = {0.75}, float high = {3},
 int32[2] a = {-2,300}, int8[2] l = {1,-1}"""


def run(body: str, x: object, shape: str = "N,2", rounding: str = "even") -> np.ndarray:
    """The codes `yq` that the body makes of `q`, codes of `x` in steps of 1 with zero point 3."""
    text = f"""<ir_version: 10, opset_import: ["" : 21], metadata_props: ["optc.rounding": "{rounding}"]>
        g (float[{shape}] x) => (uint8 yq) <{CONSTANTS}> {{
        q = QuantizeLinear (x, one, z) d = DequantizeLinear (q, one, z) {body} }}"""
    reference = Reference(Model(onnx.parser.parse_model(text)))
    assert not reference.program.left
    return reference.run({"x": np.asarray(x, np.float32)})["yq"]


@pytest.mark.parametrize(("rounding", "wanted"), [("even", [2, 0, 4]), ("half_up", [3, 1, 4])])
def test_layer_that_shifts(rounding: str, wanted: list[int]) -> None:
    # acc = 2 a - 3 b, of scale 0.5: 5, 1, 8 -> 2.5, 0.5, 4
    body = "wd = DequantizeLinear (w, half) m = MatMul (d, wd) yq = QuantizeLinear (m, one, z0)"
    assert run(body, [[4, 1], [2, 1], [4, 0]], rounding=rounding)[:, 0].tolist() == wanted


def test_padding_holds_zero_not_code_zero() -> None:
    # 1 a + 2 b + 3 c over [0 4 -2 0] = 8 - 6, 4 - 4; the bias adds 5
    body = """wd = DequantizeLinear (wc, one) bd = DequantizeLinear (b, one)
        m = Conv <pads=[1,1]> (d, wd, bd) yq = QuantizeLinear (m, one, z0)"""
    assert run(body, [[[4, -2]]], "1,1,2").tolist() == [[[7, 5]]]


def test_float_bias_joins_before_rounding() -> None:
    # 2 a - 3 b = 1, 3; times 0.5 plus 0.75 = 1.25, 2.25; in steps of 0.5: 2.5, 4.5
    body = "wd = DequantizeLinear (w, half) m = Gemm (d, wd, bf) yq = QuantizeLinear (m, half, z0)"
    assert run(body, [[2, 1], [0, -1]])[:, 0].tolist() == [2, 4]
    assert run(body, [[2, 1], [0, -1]], rounding="half_up")[:, 0].tolist() == [3, 5]


def test_sum_of_an_accumulator_and_codes() -> None:
    # 0.5 (2 a - 3 b) + [a b] = (2 a - 1.5 b, a - 0.5 b): 5.5, 1.5 -> clipped to 3
    body = """wd = DequantizeLinear (w, half) n = MatMul (d, wd) a = Add (n, d) m = Clip (a, , high)
        yq = QuantizeLinear (m, half, z0)"""
    assert run(body, [[2, -1], [0, -1]]).tolist() == [[6, 5], [3, 1]]


def test_max_pool_of_negative_values_ignores_the_padding() -> None:
    body = "m = MaxPool <kernel_shape=[2], pads=[1,1]> (d) yq = QuantizeLinear (m, one, z)"
    assert run(body, [[[-2, -1, 5]]], "1,1,3").tolist() == [[[1, 2, 8, 8]]]


def test_average_counts_at_the_border() -> None:
    body = "m = AveragePool <kernel_shape=[2], pads=[1,0] NOTE> (d) yq = QuantizeLinear (m, half, z)"
    assert run(body.replace("NOTE", ""), [[[2, 3]]], "1,1,2").tolist() == [[[7, 8]]]
    counted = body.replace("NOTE", ", count_include_pad=1")
    assert run(counted, [[[2, 3]]], "1,1,2").tolist() == [[[5, 8]]]


def test_concat_brings_codes_to_its_own() -> None:
    body = """e = DequantizeLinear (q, one, z) r = Relu (e) rq = QuantizeLinear (r, two, z0)
        rd = DequantizeLinear (rq, two, z0) m = Concat <axis=1> (d, rd) yq = QuantizeLinear (m, one, z)"""
    assert run(body, [[-2, 5]]).tolist() == [[1, 8, 3, 7]]


def test_constants_channel_by_channel() -> None:
    body = """ad = DequantizeLinear (a, one) ld = DequantizeLinear (l, one)
        e = Add (d, ad) f = Max (e, ld) m = Clip (f, , high) yq = QuantizeLinear (m, one, z)"""
    # 5 - 2 = 3; -3 - 2 below 1; 4 + 300 above the Clip; -1 + 300 too
    assert run(body, [[5, 4], [-3, -1]]).tolist() == [[6, 6], [4, 6]]


def test_product_and_moves() -> None:
    body = """t = Transpose (d) tq = QuantizeLinear (t, one, z) td = DequantizeLinear (tq, one, z)
        m = MatMul (d, td) yq = QuantizeLinear (m, one, z0)"""
    assert run(body, [[2, 1], [3, -4]]).tolist() == [[5, 3], [3, 18]]  # -4 has no code: -3


def test_overflow_of_a_product_of_unknown_length() -> None:
    body = """t = Transpose (d) tq = QuantizeLinear (t, one, z) td = DequantizeLinear (tq, one, z)
        m = MatMul (d, td) yq = QuantizeLinear (m, one, z0)"""
    with pytest.raises(InputError, match="'yq': the accumulator of a MatMul overflows int32"):
        run(body, np.full((1, 40000), 252.0), "N,M")


def test_accumulators_beyond_float32() -> None:
    text = """<ir_version: 10, opset_import: ["" : 21]> g (uint8[1,601] q) => (uint8[1,1] yq)
        <float one = {1}, uint8 z = {0}, int32[1] b = {-19431744}> {
        d = DequantizeLinear (q, one) w = DequantizeLinear (wq, one) bd = DequantizeLinear (b, one)
        m = Gemm (d, w, bd) yq = QuantizeLinear (m, one, z) }"""
    proto = onnx.parser.parse_model(text)
    weight = np.full((601, 1), 127, np.int8)
    proto.graph.initializer.append(onnx.numpy_helper.from_array(weight, "wq"))
    codes = np.full((1, 601), 255, np.uint8)
    codes[0, 0] = 128  # 600 * 255 * 127 + 128 * 127 - 19431744 = 15512
    codes[0, 1] = 133  # less 122 * 127: 18
    assert run_reference(Model(proto), {"q": codes})["yq"].tolist() == [[18]]


def test_float_nodes_subgraphs_and_any_order() -> None:
    text = """<ir_version: 10, opset_import: ["" : 21]>
        g (float[N] x, bool c) => (float[N] y) <float s = {0.5}> {
        y = If (c) <then_branch = t () => (float[N] o) { o = Identity (d) },
                    else_branch = e () => (float[N] p) { p = Neg (d) }>
        d = DequantizeLinear (q, s) q = QuantizeLinear (r, s) r = Abs (x) }"""
    model = Model(onnx.parser.parse_model(text))
    feeds = {"x": np.array([-1.1, 2.3], np.float32), "c": np.array(False)}
    assert run_reference(model, feeds)["y"].tolist() == [-1.0, -2.5]


SETTINGS = settings(
    max_examples=40,
    deadline=None,
    derandomize=True,
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
)

POW2 = [
    {"scales": "pow2"},
    {"scales": "pow2", "activations": "int8", "residual": "accumulator"},
    {"scales": "pow2", "residual": "accumulator", "per_channel": False},
    {"scales": "pow2", "weights": "learnt"},
    {"scales": "pow2", "activations": "int8", "residual": "accumulator", "weights": "learnt"},
    {"scales": "pow2", "bias": "corrected", "calibration": "mse"},
]

FREE = [
    {},
    {"activations": "int8"},
    {"residual": "accumulator"},
    {"per_channel": False},
    {"activations": "int8", "residual": "accumulator"},
    {"weights": "learnt", "calibration": "entropy"},
    {"bias": "corrected", "calibration": "percentile"},
]


@SETTINGS
@given(networks(), st.sampled_from(POW2))
def test_power_of_two_scales_equal_onnx_runtime(
    tmp_path: Path, network: Network, options: dict[str, str]
) -> None:
    model = network.quantized(tmp_path, **options)
    theirs = Session(model).run(network.feeds())
    for name, ours in run_reference(model, network.feeds()).items():
        np.testing.assert_array_equal(ours, theirs[name])


def test_free_scales_unit_by_unit(tmp_path: Path) -> None:
    """At most 1 code apart, on under 0.1% of all codes of the networks together."""
    apart: Counter[bool] = Counter()

    @SETTINGS
    @given(networks(), st.sampled_from(FREE))
    def check(network: Network, options: dict[str, str]) -> None:
        model = network.quantized(tmp_path, **options)
        reference = Reference(model)
        for ours, theirs in unit_by_unit(model, reference, network.feeds()).values():
            if ours.dtype == np.float32:
                np.testing.assert_allclose(ours, theirs, rtol=1e-5, atol=1e-5)
                continue
            most, _ = codes_apart(ours, theirs)
            assert most <= 1
            apart.update((ours != theirs).ravel().tolist())

    check()
    assert apart[False] > 50_000 and apart[True] < apart.total() / 1000


@SETTINGS
@given(networks(), st.sampled_from([{}, *POW2]))
def test_every_node_of_a_quantized_network_is_integer_or_stays_float_for_a_reason(
    tmp_path: Path, network: Network, options: dict[str, str]
) -> None:
    model = network.quantized(tmp_path, **options)
    program = Reference(model).program
    nodes = [key for op in program.ops for key in op.nodes] + [left.node for left in program.left]
    assert sorted(nodes) == sorted(n.output[0] for n in model.to_proto().graph.node)
    layers = [left.op for left in program.left if left.op in ("Conv", "Gemm", "MatMul", "Add")]
    assert not layers


@SETTINGS
@given(networks(), st.sampled_from(POW2))
def test_rounding_half_up_is_within_one_step_a_unit(
    tmp_path: Path, network: Network, options: dict[str, str]
) -> None:
    """Ties alone go elsewhere: a unit fed alike is never more than 1 code above ONNX Runtime, never below."""
    model = network.quantized(tmp_path, rounding="half_up", **options)
    for ours, theirs in unit_by_unit(model, Reference(model), network.feeds()).values():
        if ours.dtype != np.float32:
            apart = ours.astype(int) - theirs
            assert apart.min() >= 0 and apart.max() <= 1


@pytest.mark.parametrize("options", [{}, {"scales": "pow2", "residual": "accumulator"}])
def test_fashion_resnet(options: dict[str, str]) -> None:
    entry = zoo_entry("fashion-resnet")
    assert entry.calibration and entry.test
    model = Model(entry.build())
    (canonicalize,) = parse_passes("canonicalize")
    canonicalize.run(model, Context())
    Quantize(samples=32, **options).run(model, Context(calibration=Samples(entry.calibration)))  # type: ignore[arg-type]
    with np.load(entry.test) as data:
        feeds = {"image": data["image"][:8]}
    reference = Reference(model)
    assert not reference.program.left
    found = unit_by_unit(model, reference, feeds)
    differ = [codes_apart(a, b) for a, b in found.values() if a.dtype != np.float32]
    assert max(most for most, _ in differ) <= (0 if options else 1)
    assert np.mean([share for _, share in differ]) < 0.001
