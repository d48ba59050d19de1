"""Pre-activation networks, moved and quantized: all integer, and equal to ONNX Runtime."""

from pathlib import Path

import numpy as np
import onnx
import pytest

from optc.models.data import Samples
from optc.models.model import Model
from optc.models.session import Session
from optc.passes.base import Context
from optc.passes.quantize.integer.execute import Reference
from optc.passes.quantize.integer.ops import Channelwise
from optc.passes.registry import parse_passes

# A block with a 3x3 and a shortcut, a bottleneck that begins with 1x1, and the last BatchNormalization.
NETWORK = """<ir_version: 10, opset_import: ["": 21]> g (float[N,4,8,8] x) => (float[N,3] y) {
    i = Conv <pads=[1,1,1,1]> (x, wi)
    p = MaxPool <kernel_shape=[2,2], strides=[2,2]> (i)
    n1 = BatchNormalization (p, s1, b1, m1, v1) r1 = Relu (n1)
    c1 = Conv <pads=[1,1,1,1]> (r1, w1) k1 = Conv (r1, u1) a1 = Add (c1, k1)
    n2 = BatchNormalization (a1, s2, b2, m2, v2) r2 = Relu (n2)
    c2 = Conv (r2, w2) e2 = Relu (c2) d2 = Conv (e2, u2) a2 = Add (d2, a1)
    n3 = BatchNormalization (a2, s3, b3, m3, v3) r3 = Relu (n3)
    g3 = GlobalAveragePool (r3) f3 = Flatten (g3) y = Gemm (f3, w3) }"""

SIGNS = {
    "above": ([2, 0.5, 1, 1.5], {"Add": 3, "Max": 2, "Relu": 2}),
    "mixed": ([2, -0.5, 1, -1.5], {"Add": 3, "Max": 3, "Min": 3, "Relu": 1}),
    "below": ([-2, -0.5, -1, -1.5], {"Add": 3, "Min": 3, "Relu": 1}),
    "zero": ([2, 0, 1, 0], {"Add": 3, "Max": 3, "Min": 1, "Relu": 1}),
}


def network(scales: list[float]) -> Model:
    rng = np.random.default_rng(0)
    arrays = {name: rng.standard_normal((4, 4, k, k)) / (2 * k) for name, k in
              (("wi", 3), ("w1", 3), ("u1", 1), ("w2", 1), ("u2", 1))}  # fmt: skip
    arrays["w3"] = rng.standard_normal((4, 3))
    for i in "123":
        arrays |= {
            "s" + i: np.array(scales),
            "b" + i: rng.standard_normal(4),
            "m" + i: rng.standard_normal(4) / 3,
        }
        arrays["v" + i] = rng.uniform(0.5, 2, 4)
    arrays["b1"] = np.array([0.3, 0.4, -0.5, 0.6])  # a constant channel that is above 0
    proto = onnx.parser.parse_model(NETWORK)
    proto.graph.initializer.extend(
        onnx.numpy_helper.from_array(values.astype(np.float32), name) for name, values in arrays.items()
    )
    return Model(onnx.shape_inference.infer_shapes(proto))


def run(model: Model, text: str, folder: Path) -> tuple[Model, dict[str, np.ndarray]]:
    x = np.random.default_rng(1).standard_normal((40, 4, 8, 8)).astype(np.float32)
    np.savez(folder / "calibration.npz", x=x[:32])
    context = Context(calibration=Samples(folder / "calibration.npz"))
    for p in parse_passes(text):
        p.run(model, context)
    return model, {"x": x[32:]}


@pytest.mark.parametrize("signs", list(SIGNS))
def test_all_is_integer_and_as_in_onnx_runtime(signs: str, tmp_path: Path) -> None:
    scales, wanted = SIGNS[signs]
    text = "canonicalize,move-preactivation,quantize{activations=int8,scales=pow2,residual=accumulator}"
    model, feeds = run(network(scales), text, tmp_path)
    ops = [n.op for n in model.view.nodes]
    assert {op: ops.count(op) for op in ("Add", "Max", "Min", "Relu") if op in ops} == wanted
    reference = Reference(model)
    assert not reference.program.left
    assert sum(isinstance(op, Channelwise) for op in reference.program.ops) == 3
    found = reference.run(feeds)["y"]
    np.testing.assert_array_equal(found, Session(model).run(feeds)["y"])
    exact = Session(network(scales)).run(feeds)["y"]
    assert 10 * np.log10((exact**2).sum() / ((exact - found) ** 2).sum()) > 20


@pytest.mark.parametrize("activations", ["int8", "uint8"])
def test_free_scales(activations: str, tmp_path: Path) -> None:
    text = f"canonicalize,move-preactivation,quantize{{activations={activations}}}"
    model, feeds = run(network([2, -0.5, 1, -1.5]), text, tmp_path)
    found = Reference(model).run(feeds)["y"]
    exact = Session(network([2, -0.5, 1, -1.5])).run(feeds)["y"]
    assert 10 * np.log10((exact**2).sum() / ((exact - found) ** 2).sum()) > 25
