"""Add, Max and Min by constants: which become integer, and what is written for them."""

from pathlib import Path

import numpy as np
import onnx
import pytest

from optc.models.data import Samples
from optc.models.model import Model
from optc.models.session import Session
from optc.passes.base import Context
from optc.passes.quantize.channelwise import constant_codes
from optc.passes.quantize.groups import code_ranges, sources
from optc.passes.quantize.quantize import Quantize
from optc.passes.quantize.region import Region, find_region
from optc.passes.quantize.scales import Code

HEAD = '<ir_version: 10, opset_import: ["" : 21]>'
W = "float[2,2,1,1] w = {1,0,0,1}"
C = """float[2,1,1] c = {1,-3}, float[2,1,1] low = {0,-3.4e38},
 float[2,1,1] high = {3.4e38,0}, float one = {1}, float[4] row = {1,2,3,4}"""


def model_of(body: str, out: str = "float[N,2,4,4] y") -> Model:
    text = f"{HEAD} g (float[N,2,4,4] x) => ({out}) <{W}, {C}> {{ {body} }}"
    proto = onnx.shape_inference.infer_shapes(onnx.parser.parse_model(text), strict_mode=True)
    onnx.checker.check_model(proto)
    return Model(proto)


def region_of(body: str, out: str = "float[N,2,4,4] y", accumulators: bool = False) -> Region:
    return find_region(model_of(body, out), accumulators)


def units(region: Region) -> list[list[str]]:
    return [[n.op for n in u.nodes] for u in region.units]


@pytest.mark.parametrize(
    "chain",
    [
        "a = Add (x, c)",
        "a = Max (c, x)",
        "a = Min (x, one)",
        "e = Add (x, c) a = Relu (e)",
        "e = Add (c, x) f = Max (e, low) a = Min (high, f)",
        "e = Max (x, low) f = Clip (e, , one) a = Min (f, high)",
    ],
)
def test_a_chain_is_one_unit_and_keeps_the_code(chain: str) -> None:
    region = region_of(f"{chain} y = Conv (a, w)")
    assert units(region) == [[n.split()[0] for n in chain.split("= ")[1:]], ["Conv"]]
    assert [t.name for t in region.coded] == ["x", "a", "y"] and not region.left
    assert {t.name for t in sources(region)} == {"x", "a", "y"}
    seen = {"x": (-1.0, 2.0), "a": (0.0, 3.0), "y": (0.0, 1.0)}
    found = code_ranges(region, {id(t): seen[t.name] for t in region.coded}, unsigned=True)
    assert [found[id(t)] for t in region.coded] == [(-1, 3), (-1, 3), (0, 1)]


def test_a_value_that_others_read_ends_a_chain() -> None:
    body = "e = Add (x, c) a = Relu (e) y = Conv (a, w) z = Conv (e, w)"
    region = region_of(body, "float[N,2,4,4] y, float[N,2,4,4] z")
    assert units(region) == [["Add"], ["Relu"], ["Conv"], ["Conv"]]


def test_an_accumulator_does_not_feed_a_constant_add() -> None:
    region = region_of("e = Conv (x, w) a = Add (e, c) y = Conv (a, w)", accumulators=True)
    assert [t.name for t in region.coded] == ["x", "e", "a", "y"]


@pytest.mark.parametrize(
    ("body", "reason"),
    [
        ("e = Conv (x, w) a = Add (e, c) y = Exp (a)", "Add: no integer node reads it"),
        ("a = Add (x, row) y = Conv (a, w)", "Add: one of its operands is a constant"),
        ("a = Mul (x, c) y = Conv (a, w)", "Mul: Mul has no integer form here"),
        ("a = Max (x, c, one) y = Conv (a, w)", "Max: Max has no integer form here but by a constant"),
    ],
)
def test_what_stays_float(body: str, reason: str) -> None:
    assert any(f"{node.op}: {why}".startswith(reason) for node, why in region_of(body).left)


def quantized(body: str, folder: Path, x: np.ndarray, **options: object) -> Model:
    np.savez(folder / "calibration.npz", x=x)
    model = model_of(body)
    Quantize(**options).run(model, Context(calibration=Samples(folder / "calibration.npz")))  # type: ignore[arg-type]
    onnx.checker.check_model(model.to_proto(), full_check=True)
    return model


def test_what_is_written(tmp_path: Path) -> None:
    x = np.full((1, 2, 4, 4), -4, np.float32)
    x[0, 0] = 5
    model = quantized(
        "e = Add (x, c) f = Max (e, low) a = Min (f, high) y = Conv (a, w)",
        tmp_path,
        x,
        scales="pow2",
        activations="int8",
    )
    nodes = {n.output[0]: n for n in model.to_proto().graph.node}
    constants = {t.name: onnx.numpy_helper.to_array(t) for t in model.to_proto().graph.initializer}
    scales = {n.input[1] for n in nodes.values() if n.op_type == "QuantizeLinear"}
    assert {constants[s].item() for s in scales - {"y_scale"}} == {2**-4}  # 7 / 127 and more
    assert nodes["e"].input[1] == "c_dequantized" and nodes["c_dequantized"].op_type == "DequantizeLinear"
    assert constants["c_quantized"].tolist() == [[[16]], [[-48]]]
    assert constants["low_quantized"].tolist() == [[[0]], [[-128]]]
    assert constants["high_quantized"].tolist() == [[[127]], [[0]]]
    assert {constants[f"{n}_quantized"].dtype for n in ("c", "low", "high")} == {np.dtype(np.int8)}
    assert [n.op_type for n in model.to_proto().graph.node].count("QuantizeLinear") == 3
    wanted = np.stack([np.full((4, 4), 6.0), np.full((4, 4), -7.0)])[None]
    np.testing.assert_allclose(Session(model).run({"x": x})["y"], wanted, atol=0.05)


def test_codes_of_constants() -> None:
    signed = Code(np.float32(0.5), 0, np.dtype(np.int8))
    codes, zero = constant_codes("Add", np.array([1.0, -3.3, 63.5]), signed)
    assert (codes.tolist(), codes.dtype, zero) == ([2, -7, 127], np.int8, 0)
    codes, zero = constant_codes("Add", np.array([1.0, 64.0, 1e30]), signed)
    assert (codes.tolist(), codes.dtype, zero) == ([2, 128, 512], np.int32, 0)
    codes, zero = constant_codes("Max", np.array([1.0, -3e38]), signed)
    assert (codes.tolist(), codes.dtype, zero) == ([2, -128], np.int8, 0)
    moved = Code(np.float32(0.5), 10, np.dtype(np.uint8))
    assert constant_codes("Min", np.array(3e38), moved)[0].tolist() == 255
    codes, zero = constant_codes("Add", np.array([-5.0, 1.0]), moved)
    assert (codes.tolist(), codes.dtype, zero) == ([0, 12], np.uint8, 10)
    assert constant_codes("Add", np.array([-5.5]), moved)[0].dtype == np.int32


def test_a_constant_with_infinity_stays_float() -> None:
    text = f"{HEAD} g (float[N,2,4,4] x) => (float[N,2,4,4] y) <{W}> {{ a = Max (x, k) y = Conv (a, w) }}"
    proto = onnx.parser.parse_model(text)
    proto.graph.initializer.append(onnx.numpy_helper.from_array(np.float32(-np.inf).reshape(()), "k"))
    (left,) = find_region(Model(onnx.shape_inference.infer_shapes(proto)), False).left
    assert left[0].op == "Max"
