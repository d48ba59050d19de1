from __future__ import annotations

from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from graphs import Network, networks
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from optc.models.model import Model
from optc.passes.quantize.integer.execute import Reference
from optc.passes.quantize.integer.ops import Layer
from optc.targets.artifact import Artifact
from optc.targets.cpu import Cpu
from optc.targets.lowering.integer.layers import folded_zero_point

OPTIONS = st.fixed_dictionaries(
    {
        "activations": st.sampled_from(["uint8", "int8"]),
        "scales": st.sampled_from(["any", "pow2"]),
        "rounding": st.sampled_from(["even", "half_up"]),
        "residual": st.sampled_from(["codes", "accumulator"]),
    }
)


@settings(
    max_examples=15,
    deadline=None,
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
)
@given(network=networks(), options=OPTIONS)
def test_generated_networks(
    network: Network, options: dict[str, str], tmp_path_factory: pytest.TempPathFactory
) -> None:
    folder = tmp_path_factory.mktemp("network")
    model = network.quantized(folder, **options)
    reference = Reference(model)
    (folder / "a").mkdir()
    artifact = Cpu().build(model, folder / "a")
    left = {left.node for left in reference.program.left}
    assert sum(p.float_reason is not None for p in artifact.placement) == len(left)
    found = artifact.run(network.feeds())
    for name, wanted in reference.run(network.feeds()).items():
        np.testing.assert_array_equal(found[name], wanted)


CONSTANTS = """float half = {0.5}, float one = {1}, float two = {2}, float third = {0.3},
 float tiny = {0.001}, float shrinking = {1.1641532182693481e-10},
 uint8 z = {3}, uint8 z0 = {0}, int8 zs = {0}, float high = {3},
 float[1] bf = {0.75}, int32[1] b = {5}, int8[2,1] w = {2,-3}, int8[1,1,3] wc = {1,2,3},
 int64[2] flat = {-1,1}, int32[2,1] k = {-2,300}, int8[2,1] l = {1,-1}, float top = {250}"""


def build(body: str, out: str, shape: str, tmp_path: Path, rounding: str = "even") -> Artifact:
    """An artifact of the body, which reads `d`, the dequantized input `x` in steps of 1, zero point 3."""
    text = f"""<ir_version: 10, opset_import: ["": 21], metadata_props: ["optc.rounding": "{rounding}"]>
        g (float[{shape}] x) => ({out}) <{CONSTANTS}> {{
        q = QuantizeLinear (x, one, z) d = DequantizeLinear (q, one, z) {body} }}"""
    proto = onnx.parser.parse_model(text)
    proto.graph.output[0].type.tensor_type.ClearField("shape")
    return Cpu().build(Model(proto), tmp_path)


def run_both(artifact: Artifact, x: Any) -> np.ndarray:
    """The one output, after a look that it equals the reference's."""
    feeds = {"x": np.asarray(x, np.float32)}
    (found,) = artifact.run(feeds).values()
    (wanted,) = Reference(artifact.model).run(feeds).values()
    np.testing.assert_array_equal(found, wanted)
    assert found.dtype == wanted.dtype
    return found


LAYER = "wd = DequantizeLinear (w, {s}) m = MatMul (d, wd) yq = QuantizeLinear (m, {y}, {z})"
ACCUMULATOR = "wd = DequantizeLinear (w, half) n = MatMul (d, wd) a = Add (n, d) "
CONV = "wd = DequantizeLinear (wc, one) "
BODIES = {
    "shift": (LAYER.format(s="half", y="one", z="z0"), "N,2"),
    "shift by 33 bits": (LAYER.format(s="shrinking", y="one", z="z0"), "N,2"),
    "shift to the left": (LAYER.format(s="two", y="half", z="z"), "N,2"),
    "no shift": (LAYER.format(s="one", y="one", z="z"), "N,2"),
    "multiplier": (LAYER.format(s="third", y="one", z="z"), "N,2"),
    "saturating": (LAYER.format(s="one", y="tiny", z="zs"), "N,2"),
    "float bias": (
        "wd = DequantizeLinear (w, half) m = Gemm (d, wd, bf) yq = QuantizeLinear (m, half, z0)",
        "N,2",
    ),
    "sum by shifts": (ACCUMULATOR + "m = Clip (a, , high) yq = QuantizeLinear (m, half, z0)", "N,2"),
    "sum in float64": (ACCUMULATOR + "yq = QuantizeLinear (a, third, z0)", "N,2"),
    "channelwise": (
        "kd = DequantizeLinear (k, one) ld = DequantizeLinear (l, one) a = Add (d, kd) b = Max (ld, a)"
        " m = Clip (b, , top) yq = QuantizeLinear (m, one, z)",
        "N,2,5",
    ),
    "channelwise bound": (
        "ld = DequantizeLinear (l, one) m = Min (d, ld) yq = QuantizeLinear (m, one, z)",
        "N,2,W",
    ),
    "relu alone": ("r = Relu (d) yq = QuantizeLinear (r, third, z0)", "N,2"),
    "padded": (
        CONV + "bd = DequantizeLinear (b, one) "
        "m = Conv <pads=[1,2]> (d, wd, bd) yq = QuantizeLinear (m, one, z0)",
        "N,1,W",
    ),
    "same": (
        CONV + 'm = Conv <auto_pad="SAME_LOWER", strides=[2]> (d, wd) yq = QuantizeLinear (m, one, z0)',
        "N,1,6",
    ),
    "max": ("m = MaxPool <kernel_shape=[2], pads=[1,1]> (d) yq = QuantizeLinear (m, one, z)", "N,2,5"),
    "max with overhang": (
        "m = MaxPool <kernel_shape=[3], strides=[2], ceil_mode=1> (d) yq = QuantizeLinear (m, one, z)",
        "N,2,6",
    ),
    "average": (
        "m = AveragePool <kernel_shape=[3], pads=[1,1]> (d) yq = QuantizeLinear (m, half, z)",
        "N,2,5",
    ),
    "global average": ("m = GlobalAveragePool (d) yq = QuantizeLinear (m, third, z)", "N,2,5"),
    "product": (
        "t = Transpose <perm=[1,0]> (d) tq = QuantizeLinear (t, one, z) td = DequantizeLinear (tq, one, z)"
        " m = MatMul (td, d) yq = QuantizeLinear (m, third, z)",
        "3,2",
    ),
    "concat": (
        "r = Relu (d) rq = QuantizeLinear (r, third, z0) rd = DequantizeLinear (rq, third, z0)"
        " m = Concat <axis=1> (d, rd) yq = QuantizeLinear (m, one, z)",
        "N,2",
    ),
    "moved": ("m = Reshape (d, flat) yq = QuantizeLinear (m, one, z)", "N,2"),
}  # fmt: skip


@pytest.mark.parametrize("rounding", ["even", "half_up"])
@pytest.mark.parametrize("name", list(BODIES))
def test_each_operation(name: str, rounding: str, tmp_path: Path) -> None:
    body, shape = BODIES[name]
    kind = "int8" if "zs" in body else "uint8"
    artifact = build(body, f"{kind} yq", shape, tmp_path, rounding)
    assert all(p.integer for p in artifact.placement), artifact.placement
    sizes = [3 if d == "N" else 7 if d == "W" else int(d) for d in shape.split(",")]
    count = int(np.prod(sizes))
    run_both(artifact, (np.arange(count) % 11 - 4).reshape(sizes) * 0.5)
    run_both(artifact, np.random.default_rng(0).uniform(-200, 400, sizes))


@pytest.mark.parametrize(("rounding", "wanted"), [("even", [2, 0, 4]), ("half_up", [3, 1, 4])])
def test_ties(rounding: str, wanted: list[int], tmp_path: Path) -> None:
    artifact = build(BODIES["shift"][0], "uint8 yq", "N,2", tmp_path, rounding)
    assert run_both(artifact, [[4, 1], [2, 1], [4, 0]])[:, 0].tolist() == wanted


def test_floats_between_integers_stay_and_say_why(tmp_path: Path) -> None:
    body = """s = Softmax (d) sq = QuantizeLinear (s, tiny, z0) sd = DequantizeLinear (sq, tiny, z0)
        wd = DequantizeLinear (w, half) y = MatMul (sd, wd)"""
    artifact = build(body, "float[N,1] y", "N,2", tmp_path)
    reasons = {p.op: p.float_reason for p in artifact.placement if p.float_reason}
    assert reasons == {"Softmax": "Softmax has no integer form here"}
    assert Counter(p.integer for p in artifact.placement) == {True: 6, False: 1}
    run_both(artifact, [[4, 1], [2, 1]])


def test_a_dequantized_value_that_a_float_node_reads_too(tmp_path: Path) -> None:
    body = """wd = DequantizeLinear (w, half) m = MatMul (d, wd) yq = QuantizeLinear (m, one, z0)
        v = DequantizeLinear (yq, one, z0) e = Erf (d) y = Add (v, e)"""
    artifact = build(body, "float[N,2] y", "N,2", tmp_path)
    feeds = {"x": np.array([[4, 1], [2, -3]], np.float32)}
    np.testing.assert_allclose(artifact.run(feeds)["y"], Reference(artifact.model).run(feeds)["y"], 1e-6)
    assert {p.op for p in artifact.placement if p.float_reason} == {"Erf", "Add"}


def test_codes_that_an_island_reads(tmp_path: Path) -> None:
    """NonZero runs in ONNX Runtime; the layer before it is integer all the same."""
    body = """wd = DequantizeLinear (w, half) m = MatMul (d, wd) yq = QuantizeLinear (m, one, z0)
        v = DequantizeLinear (yq, one, z0) y = NonZero (v)"""
    artifact = build(body, "int64[2,K] y", "N,2", tmp_path)
    assert {p.op: p.where for p in artifact.placement}["NonZero"] == "island"
    feeds = {"x": np.array([[4, 1], [0, 3]], np.float32)}
    np.testing.assert_array_equal(artifact.run(feeds)["y"], Reference(artifact.model).run(feeds)["y"])


def test_an_average_over_free_dimensions_stays_float(tmp_path: Path) -> None:
    body = "m = GlobalAveragePool (d) yq = QuantizeLinear (m, one, z)"
    artifact = build(body, "uint8 yq", "N,2,W", tmp_path)
    reasons = {p.op: p.float_reason for p in artifact.placement if p.float_reason}
    assert "free dimensions (bind those with --shape)" in str(reasons["GlobalAveragePool"])
    feeds = {"x": np.arange(10, dtype=np.float32).reshape(1, 2, 5)}
    np.testing.assert_array_equal(artifact.run(feeds)["yq"], Reference(artifact.model).run(feeds)["yq"])


def test_zero_points_are_folded_where_no_sum_can_overflow() -> None:
    text = f"""<ir_version: 10, opset_import: ["": 21]> g (float[N,2] x) => (float y) <{CONSTANTS}> {{
        q = QuantizeLinear (x, one, z) d = DequantizeLinear (q, one, z)
        wd = DequantizeLinear (w, half) y = MatMul (d, wd) }}"""
    (layer,) = (
        op for op in Reference(Model(onnx.parser.parse_model(text))).program.ops if isinstance(op, Layer)
    )
    zero, bias = folded_zero_point(layer)
    assert zero == 0 and bias is not None and bias.tolist() == [-3 * (2 - 3)]
    large = Layer(
        (), (), "y", layer.code, np.full((2**17, 1), 127, np.int8), None, None, 1, layer.ending, layer.bound
    )
    assert folded_zero_point(large) == (3, None)
