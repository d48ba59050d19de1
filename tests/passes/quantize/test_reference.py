"""The reference's primitives: against exact rationals, and against ONNX Runtime on what the pass writes."""

from fractions import Fraction
from math import floor
from pathlib import Path

import numpy as np
import onnx
import pytest
from hypothesis import given
from hypothesis import strategies as st

from optc.models.data import Samples
from optc.models.model import Model
from optc.models.session import Session
from optc.passes.base import Context
from optc.passes.quantize.quantize import Quantize
from optc.passes.quantize.reference import quantize, requantize, requantize_sum, rounded, shift
from optc.passes.quantize.scales import Code

INT8, UINT8 = np.dtype(np.int8), np.dtype(np.uint8)
roundings = st.sampled_from(["even", "half_up"])


def exact(value: Fraction, rounding: str) -> int:
    return round(value) if rounding == "even" else floor(value + Fraction(1, 2))


def saturated(value: int, code: Code) -> int:
    low, high = code.limits
    return max(low, min(high, value + code.zero_point))


@given(st.floats(-1e6, 1e6), roundings)
def test_rounded_is_exact(value: float, rounding: str) -> None:
    assert int(rounded(np.array(value), rounding)) == exact(Fraction(value), rounding)


def test_half_up_of_the_number_below_half() -> None:
    assert rounded(np.array(0.49999999999999994), "half_up") == 0


@given(st.integers(-(2**31), 2**31 - 1), st.integers(-40, 40), st.integers(-128, 127), roundings)
def test_shift_is_the_exact_quotient(acc: int, bits: int, zero: int, rounding: str) -> None:
    code = Code(np.float32(1), zero, INT8)
    quotient = Fraction(acc) * Fraction(2) ** -bits
    got = shift(np.array([acc], np.int64), np.array([bits]), code, rounding)
    assert int(got[0]) == saturated(exact(quotient, rounding), code)


@given(st.integers(-(2**24) + 1, 2**24 - 1), st.integers(0, 20), roundings)
def test_free_scales_agree_with_the_shift_below_24_bits(acc: int, bits: int, rounding: str) -> None:
    code = Code(np.float32(1), 3, UINT8)
    array = np.array([acc], np.int32)
    multiplier = np.array(2.0**-bits, np.float32)
    assert requantize(array, multiplier, code, rounding) == shift(array, np.array(bits), code, rounding)


@given(st.integers(-(2**22), 2**22), st.integers(1, 4096), st.integers(-8, 8), roundings)
def test_average_with_powers_of_two_is_exact(total: int, count: int, k: int, rounding: str) -> None:
    code = Code(np.float32(2.0**-k), 0, INT8)
    got = requantize_sum([(np.float32(1), np.array([total]))], code, rounding, count)
    quotient = Fraction(total, count) * Fraction(2) ** k
    assert int(got[0]) == saturated(exact(quotient, rounding), code)


CONV = """
<ir_version: 10, opset_import: ["" : 21]>
g (float[N,3,9,9] x) => (float[N,8,7,7] y) { c = Conv (x, w, b) y = Relu (c) }
"""


def quantized_conv(folder: Path, options: Quantize) -> tuple[dict[str, np.ndarray], np.ndarray]:
    """The constants of a quantized convolution, and the sum over its window for random input codes."""
    rng = np.random.default_rng(0)
    proto = onnx.parser.parse_model(CONV)
    arrays = {"w": rng.standard_normal((8, 3, 3, 3)), "b": rng.standard_normal(8)}
    for name in arrays:
        proto.graph.initializer.append(onnx.numpy_helper.from_array(arrays[name].astype(np.float32), name))
    x = rng.standard_normal((64, 3, 9, 9)).astype(np.float32)
    np.savez(folder / "x.npz", x=x)
    model = Model(proto)
    Quantize.run(options, model, Context(calibration=Samples(folder / "x.npz")))
    proto = model.to_proto()
    proto.graph.output.extend(onnx.ValueInfoProto(name=n) for n in ("x_quantized", "y_quantized"))
    codes = Session(Model(proto)).run({"x": x}, ["x_quantized", "y_quantized"])
    constants = {t.name: onnx.numpy_helper.to_array(t) for t in proto.graph.initializer}
    constants["x"] = x
    return constants | codes, accumulate(constants | codes)


def accumulate(c: dict[str, np.ndarray]) -> np.ndarray:
    x = c["x_quantized"].astype(np.int64) - int(c["x_zero_point"])
    windows = np.lib.stride_tricks.sliding_window_view(x, (3, 3), (2, 3))
    acc = np.einsum("nihwkl,oikl->nohw", windows, c["w_quantized"].astype(np.int64))
    return acc + c["b_quantized"].reshape(-1, 1, 1)


def code_of(c: dict[str, np.ndarray], name: str) -> Code:
    zero = c[f"{name}_zero_point"]
    return Code(np.float32(c[f"{name}_scale"]), int(zero), zero.dtype)


@pytest.mark.parametrize("activations", ["int8", "uint8"])
def test_free_scales_against_onnx_runtime(tmp_path: Path, activations: str) -> None:
    c, acc = quantized_conv(tmp_path, Quantize(activations=activations))
    assert (quantize(c["x"], code_of(c, "x")) == c["x_quantized"]).all()
    y = code_of(c, "y")
    multiplier = (c["x_scale"] * c["w_scale"]) / y.scale
    got = requantize(acc, multiplier.reshape(-1, 1, 1), y)
    got = np.maximum(got, np.array(y.zero_point, y.dtype))
    difference = np.abs(got.astype(int) - c["y_quantized"].astype(int))
    assert difference.max() <= 1
    assert np.mean(difference > 0) < 1e-3


@pytest.mark.parametrize("activations", ["int8", "uint8"])
def test_powers_of_two_equal_onnx_runtime(tmp_path: Path, activations: str) -> None:
    c, acc = quantized_conv(tmp_path, Quantize(activations=activations, scales="pow2"))
    y = code_of(c, "y")
    bits = np.log2(y.scale / (c["x_scale"] * c["w_scale"])).astype(int)
    assert (bits > 0).all()
    got = np.maximum(shift(acc, bits.reshape(-1, 1, 1), y), np.array(y.zero_point, y.dtype))
    assert (got == c["y_quantized"]).all()
