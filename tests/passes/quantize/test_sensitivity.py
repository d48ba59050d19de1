"""The sweep gives what one computes by hand, and what a whole model gives whose one layer has Q and DQ."""

from __future__ import annotations

import itertools
import math
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray
from onnx import helper, numpy_helper

from optc.models.data import Samples
from optc.models.errors import InputError
from optc.models.model import Model
from optc.models.session import Arrays, Session
from optc.models.source import open_source
from optc.passes.base import Context
from optc.passes.pipeline import Pipeline
from optc.passes.quantize.layers import LayerSource, quantize_layer
from optc.passes.quantize.scales import Code, activation_code
from optc.passes.quantize.sensitivity import SETTINGS, Sensitivity, sensitive_units, sensitivities
from optc.passes.registry import parse_passes

Array = NDArray[Any]

HEADER = '<ir_version: 10, opset_import: ["": 21]>\n'
KIND = {
    "int8": (np.uint8, True, False),
    "int8 per tensor": (np.uint8, False, False),
    "int8 pow2": (np.int8, False, True),
    "int16": (np.int16, True, False),
}
"""Type of an input's code, whether weights have a scale a channel, whether scales are powers of two."""

CHAIN = """g (float[N,3,6,6] x) => (float[N,5] y) {
 a = Conv<kernel_shape=[3,3], pads=[1,1,1,1]>(x, w1, b1)  r = Relu(a)  b = Conv<kernel_shape=[1,1]>(r, w2)
 p = GlobalAveragePool(b)  f = Flatten(p)  y = Gemm<transB=1>(f, w3, b3) }"""
CHAIN_WEIGHTS = {"w1": (4, 3, 3, 3), "b1": (4,), "w2": (6, 4, 1, 1), "w3": (5, 6), "b3": (5,)}

RESIDUAL = """g (float[N,4,5,5] x) => (float[N,4,5,5] y, float[N,4,5,5] side) {
 a = Conv<kernel_shape=[3,3], pads=[1,1,1,1]>(x, w1)  r = Relu(a)  c = Conv<kernel_shape=[1,1]>(r, w2)
 side = Sigmoid(r)  s = Add(c, x)  y = Conv<kernel_shape=[1,1]>(s, w3) }"""
RESIDUAL_WEIGHTS = {"w1": (4, 4, 3, 3), "w2": (4, 4, 1, 1), "w3": (4, 4, 1, 1)}

ATTENTION = """g (float[N,6,8] x) => (float[N,6,8] y) {
 q = MatMul(x, wq)  k = MatMul(x, wk)  t = Transpose<perm=[0,2,1]>(k)  s = MatMul(q, t)
 m = Softmax<axis=-1>(s)  v = MatMul(m, x)  y = MatMul(v, wo) }"""
ATTENTION_WEIGHTS = {"wq": (8, 8), "wk": (8, 8), "wo": (8, 8)}


def proto_of(text: str, shapes: dict[str, tuple[int, ...]], seed: int = 0) -> onnx.ModelProto:
    proto = onnx.parser.parse_model(HEADER + text)
    rng = np.random.default_rng(seed)
    for name, shape in shapes.items():
        values = rng.standard_normal(shape).astype(np.float32)
        proto.graph.initializer.append(numpy_helper.from_array(values, name))
    for node in proto.graph.node:
        node.name = f"at_{node.output[0]}"
    return onnx.shape_inference.infer_shapes(proto)


def calibration(proto: onnx.ModelProto, folder: Path, count: int = 11) -> Context:
    rng = np.random.default_rng(1)
    arrays = {}
    for item in proto.graph.input:
        dims = [d.dim_value for d in item.type.tensor_type.shape.dim[1:]]
        arrays[item.name] = rng.standard_normal((count, *dims)).astype(np.float32)
    np.savez(folder / "calib.npz", **arrays)  # type: ignore[arg-type]
    return Context(calibration=Samples(folder / "calib.npz"))


def feeds_of(context: Context, count: int) -> Arrays:
    assert context.calibration is not None
    return next(context.calibration.batches(list(context.calibration.members), count, count))


def snr(clean: Array, found: Array) -> float:
    clean, found = clean.astype(np.float64), found.astype(np.float64)
    noise = float(np.sum((found - clean) ** 2))
    return 10 * math.log10(float(np.sum(clean**2)) / noise) if noise else math.inf


def values_of(proto: onnx.ModelProto, names: list[str], feeds: Arrays) -> Arrays:
    """Values of the float model, by name; inputs too."""
    copy = onnx.ModelProto()
    copy.CopyFrom(proto)
    known = {o.name for o in copy.graph.output} | set(feeds)
    for name in names:
        if name not in known:
            copy.graph.output.append(helper.make_tensor_value_info(name, onnx.TensorProto.FLOAT, None))
    found = Session(Model(copy)).run(feeds)
    return {name: feeds[name] if name in feeds else found[name] for name in names}


def int4(weight: Array, axis: int) -> Array:
    """Blocks of 32 of what makes a channel, one after another, codes of -7 to 7."""
    rows = np.moveaxis(weight, axis, 0).copy()
    flat = rows.reshape(rows.shape[0], -1)
    for channel, start in itertools.product(range(flat.shape[0]), range(0, flat.shape[1], 32)):
        block = flat[channel, start : start + 32]
        scale = np.float32(np.abs(block).max() / 7)
        block[:] = np.rint(block / scale) * scale
    return np.moveaxis(rows, 0, axis)


def with_codes(proto: onnx.ModelProto, output: str, setting: str, feeds: Arrays) -> onnx.ModelProto:
    """`proto` with Q and DQ on what the layer that makes `output` reads, and its weight as its codes say."""
    made = onnx.ModelProto()
    made.CopyFrom(proto)
    graph = made.graph
    place = next(i for i, n in enumerate(graph.node) if output in n.output)
    node = graph.node[place]
    constants = {t.name: t for t in graph.initializer}
    code = None
    added = []
    for index, name in enumerate(list(node.input)):
        if name in constants or setting == "int4 weights":
            continue
        x = values_of(proto, [name], feeds)[name]
        dtype, _, pow2 = KIND[setting]
        found = activation_code(float(x.min()), float(x.max()), np.dtype(dtype), pow2)
        code = code or found
        ends = [f"{name}_{output}_{index}_{k}" for k in ("scale", "zero", "codes", "floats")]
        graph.initializer.append(numpy_helper.from_array(np.array(found.scale), ends[0]))
        graph.initializer.append(numpy_helper.from_array(np.array(found.zero_point, dtype), ends[1]))
        added.append(helper.make_node("QuantizeLinear", [name, *ends[:2]], [ends[2]]))
        added.append(helper.make_node("DequantizeLinear", [ends[2], *ends[:2]], [ends[3]]))
        node.input[index] = ends[3]
    if node.input[1] in constants:
        axis = axis_of(node)
        weight = numpy_helper.to_array(constants[node.input[1]])
        bias = numpy_helper.to_array(constants[node.input[2]]) if len(node.input) > 2 else None
        rounded = int4(weight, axis) if code is None else int8(weight, bias, axis, code, setting)
        graph.initializer.append(numpy_helper.from_array(rounded, f"{output}_weight"))
        node.input[1] = f"{output}_weight"
    changed = [*graph.node[:place], *added, *graph.node[place:]]
    copies = [onnx.NodeProto.FromString(n.SerializeToString()) for n in changed]
    del graph.node[:]
    graph.node.extend(copies)
    return made


def axis_of(node: onnx.NodeProto) -> int:
    """The axis of the output channels of a layer's weight."""
    if node.op_type == "Gemm":
        return 0 if any(a.name == "transB" and a.i for a in node.attribute) else 1
    return {"Conv": 0, "ConvTranspose": 1, "MatMul": 1}[node.op_type]


def int8(weight: Array, bias: Array | None, axis: int, code: Code, setting: str) -> Array:
    _, per_channel, pow2 = KIND[setting]
    layer = quantize_layer(LayerSource(weight, bias, axis, code, None), per_channel, pow2)
    tall = [-1 if a == axis else 1 for a in range(weight.ndim)]
    return np.asarray(layer.weight * layer.scale.reshape(tall), np.float32)


def expected(proto: onnx.ModelProto, output: str, setting: str, feeds: Arrays) -> tuple[float, float]:
    """The SNR of the layer that makes `output`, and of the worst output, from whole models."""
    names = [output, *(o.name for o in proto.graph.output)]
    clean = values_of(proto, names, feeds)
    found = values_of(with_codes(proto, output, setting, feeds), names, feeds)
    return snr(clean[output], found[output]), min(snr(clean[n], found[n]) for n in names[1:])


def check(proto: onnx.ModelProto, found: list[Sensitivity], feeds: Arrays) -> None:
    for entry in found:
        own, output = expected(proto, entry.layer.removeprefix("at_"), entry.setting, feeds)
        assert entry.own_db == pytest.approx(own, abs=allowed(own)), entry
        assert entry.output_db == pytest.approx(output, abs=allowed(output)), entry


def allowed(db: float) -> float:
    """Float32's own noise, some 114 dB below the signal, adds to that of the codes in one of the two."""
    return 0.1 if math.isinf(db) else 0.1 + 20 * math.log10(1 + 2e-6 * 10 ** (db / 20))


@pytest.mark.parametrize(
    ("text", "shapes"),
    [(CHAIN, CHAIN_WEIGHTS), (RESIDUAL, RESIDUAL_WEIGHTS), (ATTENTION, ATTENTION_WEIGHTS)],
    ids=["chain", "residual, two outputs", "attention"],
)
def test_the_sweep_equals_whole_models(text: str, shapes: dict[str, tuple[int, ...]], tmp_path: Path) -> None:
    proto = proto_of(text, shapes)
    context = calibration(proto, tmp_path)
    found = sensitivities(Model(proto), context)
    check(proto, found, feeds_of(context, 11))
    layers = [n.name for n in proto.graph.node if n.op_type in ("Conv", "Gemm", "MatMul")]
    assert list(dict.fromkeys(e.layer for e in found)) == layers
    products = {"at_s", "at_v"}
    assert [e.setting for e in found if e.layer not in products] == [*SETTINGS] * (
        len(layers) - len(products & {*layers})
    )
    assert all(e.setting != "int4 weights" for e in found if e.layer in products)


def test_own_and_output_in_numpy(tmp_path: Path) -> None:
    proto = proto_of("g (float[N,4] x) => (float[N,3] y) { h = MatMul(x, w)  y = Relu(h) }", {"w": (4, 3)})
    context = calibration(proto, tmp_path)
    (entry,) = sensitivities(Model(proto), context, ["int8"], samples=8)
    x, w = feeds_of(context, 8)["x"], numpy_helper.to_array(proto.graph.initializer[0])
    low, high = x.min(), x.max()
    scale = (high - low) / 255
    zero = np.rint(-low / scale)
    coded = (np.clip(np.rint(x / scale) + zero, 0, 255) - zero) * scale
    step = np.abs(w).max(axis=0) / 127
    h, made = x @ w, coded @ (np.rint(w / step) * step)
    assert (entry.layer, entry.op, entry.setting) == ("at_h", "MatMul", "int8")
    assert entry.own_db == pytest.approx(snr(h, made), abs=0.02)
    assert entry.output_db == pytest.approx(snr(np.maximum(h, 0), np.maximum(made, 0)), abs=0.02)


def test_the_last_layer_is_the_output(tmp_path: Path) -> None:
    proto = proto_of(CHAIN, CHAIN_WEIGHTS)
    found = sensitivities(Model(proto), calibration(proto, tmp_path), layers=["at_y"])
    assert [e.setting for e in found] == [*SETTINGS]
    assert all(e.own_db == e.output_db and 10 < e.own_db < 90 for e in found)


def test_an_output_that_the_layer_does_not_reach_does_not_count(tmp_path: Path) -> None:
    text = "g (float[N,4] x) => (float[N,4] y, float[N,4] z) { y = MatMul(x, w)  z = MatMul(x, v) }"
    proto = proto_of(text, {"w": (4, 4), "v": (4, 4)})
    for entry in sensitivities(Model(proto), calibration(proto, tmp_path)):
        assert entry.output_db == pytest.approx(entry.own_db, abs=0.02)


def test_a_float_output_counts_and_an_index_does_not(tmp_path: Path) -> None:
    text = """g (float[N,4] x) => (float[N,4] y, int64[N,1] best) {
     y = MatMul(x, w)  best = ArgMax<axis=1>(y) }"""
    proto = proto_of(text, {"w": (4, 4)})
    for entry in sensitivities(Model(proto), calibration(proto, tmp_path)):
        assert entry.output_db == entry.own_db


def test_a_setting_that_loses_nothing_is_exact(tmp_path: Path) -> None:
    proto = proto_of("g (float[N,4] x) => (float[N,4] y) { y = MatMul(x, w) }", {"w": (4, 4)})
    proto.graph.initializer[0].CopyFrom(numpy_helper.from_array(127 * np.eye(4, dtype=np.float32), "w"))
    x = np.arange(256, dtype=np.float32).reshape(64, 4)
    np.savez(tmp_path / "calib.npz", x=x)
    context = Context(calibration=Samples(tmp_path / "calib.npz"))
    (entry,) = sensitivities(Model(proto), context, ["int8"], samples=64)
    assert entry.own_db == entry.output_db == math.inf


def test_a_bias_beyond_int32_coarsens_the_weight(tmp_path: Path) -> None:
    """As quantize does; the other channel, which shares the scale, shows it."""
    text = """g (float[N,4] x) => (float[N,1] z) {
     y = Gemm<transB=1>(x, w, b)  z = Slice(y, one, two, one) }"""
    proto = proto_of(text, {"w": (2, 4)})
    for name, values in (
        ("b", np.array([1e6, 0], np.float32)),
        ("one", np.array([1])),
        ("two", np.array([2])),
    ):
        proto.graph.initializer.append(numpy_helper.from_array(values, name))
    context = calibration(proto, tmp_path)
    found = sensitivities(Model(proto), context, ["int8", "int8 per tensor"])
    for entry in found:
        _, output = expected(proto, "y", entry.setting, feeds_of(context, 11))
        assert entry.output_db == pytest.approx(output, abs=0.05)
    assert found[0].output_db > found[1].output_db + 5


def test_nothing_of_the_model_changes(tmp_path: Path) -> None:
    proto = proto_of(RESIDUAL.replace("(x, w1)", "(x, w1, b1)"), RESIDUAL_WEIGHTS | {"b1": (4,)})
    model = Model(proto)
    bias = model.view.nodes[0].inputs[2]
    before = proto.SerializeToString()
    sensitivities(model, calibration(proto, tmp_path))
    assert not model.changed and model.to_proto().SerializeToString() == before
    assert len(bias.outputs) == 1


def test_a_batch_that_is_fixed_inside_runs_sample_by_sample(tmp_path: Path) -> None:
    text = """g (float[N,4] x) => (float[1,3] y) { one = Constant<value_ints=[1,4]>()
     f = Reshape(x, one)  y = MatMul(f, w) }"""
    proto = proto_of(text, {"w": (4, 3)})
    context = calibration(proto, tmp_path, 3)
    free = proto_of("g (float[N,4] x) => (float[N,3] y) { y = MatMul(x, w) }", {"w": (4, 3)})
    a, b = (sensitivities(Model(p), context, ["int8"]) for p in (proto, free))
    assert a[0].own_db == pytest.approx(b[0].own_db, abs=0.02)


def test_samples_that_a_model_mixes_run_one_by_one(tmp_path: Path) -> None:
    text = """g (float[N,4] x) => (float[N,3] y) { m = ReduceMean<keepdims=1>(x, axes)  c = Sub(x, m)
     y = MatMul(c, w) }"""
    proto = proto_of(text, {"w": (4, 3)})
    proto.graph.initializer.append(numpy_helper.from_array(np.array([0, 1]), "axes"))
    context = calibration(proto, tmp_path, 3)
    (entry,) = sensitivities(Model(proto), context, ["int8"])
    x, w = feeds_of(context, 3)["x"], numpy_helper.to_array(proto.graph.initializer[0])
    centred = x - x.mean(axis=1, keepdims=True)
    code = activation_code(float(centred.min()), float(centred.max()), np.dtype(np.uint8), False)
    made = code.dequantize(code.quantize(centred)) @ int8(w, None, 1, code, "int8")
    assert entry.own_db == pytest.approx(snr(centred @ w, made), abs=0.05)


def test_layers_are_chosen_by_pattern_or_function(tmp_path: Path) -> None:
    proto = proto_of(CHAIN, CHAIN_WEIGHTS)
    model, context = Model(proto), calibration(proto, tmp_path)
    everything = sensitivities(model, context)
    some = sensitivities(model, context, ["int16", "int8"], layers=["at_[ab]"])
    assert [(e.layer, e.setting) for e in some] == list(
        itertools.product(["at_a", "at_b"], ["int16", "int8"])
    )
    assert {*some} < {*everything}
    last = sensitivities(model, context, ["int8"], layers=lambda name: name == "at_y")
    assert last == [e for e in everything if (e.layer, e.setting) == ("at_y", "int8")]


def test_a_model_without_layers_has_none() -> None:
    model = Model(onnx.parser.parse_model(HEADER + "g (float[N] x) => (float[N] y) { y = Relu(x) }"))
    assert sensitivities(model, Context()) == [] and sensitive_units(model) == []


def test_errors(tmp_path: Path) -> None:
    proto = proto_of(CHAIN, CHAIN_WEIGHTS)
    model, context = Model(proto), calibration(proto, tmp_path)
    with pytest.raises(InputError, match="sensitivity needs calibration samples: give them with --calib"):
        sensitivities(model, Context())
    with pytest.raises(InputError, match="unknown setting 'int9'; did you mean 'int8'"):
        sensitivities(model, context, ["int9"])
    with pytest.raises(InputError, match="sensitivity: no layer matches 'conv'; the layers are at_a, at_b"):
        sensitivities(model, context, layers=["conv"])
    text = "g (float[N,4] x) => (float[N,4] y) { l = Log(x)  y = MatMul(l, w) }"
    proto = proto_of(text, {"w": (4, 4)})
    with pytest.raises(InputError, match="samples make 'l' NaN or infinite"):
        sensitivities(Model(proto), context=calibration(proto, tmp_path))


@pytest.mark.parametrize("setting", ["int8", "int4 weights"])
def test_a_weight_with_nan_is_named(setting: str, tmp_path: Path) -> None:
    proto = proto_of("g (float[N,4] x) => (float[N,4] y) { y = MatMul(x, w) }", {"w": (4, 4)})
    broken = np.full((4, 4), np.nan, np.float32)
    proto.graph.initializer[0].CopyFrom(numpy_helper.from_array(broken, "w"))
    with pytest.raises(InputError, match="constant 'w' holds NaN or infinity"):
        sensitivities(Model(proto), calibration(proto, tmp_path), [setting])


STEPS = {
    "conv": ("{y} = Conv<kernel_shape=[3,3], pads=[1,1,1,1]>({x}, w{i})", (4, 4, 3, 3)),
    "depthwise": ("{y} = Conv<kernel_shape=[3,3], pads=[1,1,1,1], group=4>({x}, w{i})", (4, 1, 3, 3)),
    "transposed": ("{y} = ConvTranspose<kernel_shape=[3,3], pads=[1,1,1,1]>({x}, w{i})", (4, 4, 3, 3)),
    "matmul": ("{y} = MatMul({x}, w{i})", (5, 5)),
    "product": ("t{i} = Transpose<perm=[0,1,3,2]>({x})  {y} = MatMul({x}, t{i})", None),
    "relu": ("{y} = Relu({x})", None),
    "sum": ("{y} = Add({x}, x)", None),
    "tanh": ("{y} = Tanh({x})", None),
}


@settings(max_examples=25, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(steps=st.lists(st.sampled_from([*STEPS]), min_size=1, max_size=5), data=st.data())
def test_chains(steps: list[str], data: st.DataObject, tmp_path: Path) -> None:
    """Any chain, every value of it an output or not, any setting: as whole models give it."""
    ends = data.draw(st.lists(st.integers(0, len(steps) - 1), max_size=1), "more outputs")
    outputs = sorted({*ends, len(steps) - 1})
    text, weights = [], {}
    for i, step in enumerate(steps):
        form, shape = STEPS[step]
        text.append(form.format(x=f"v{i - 1}" if i else "x", y=f"v{i}", i=i))
        if shape:
            weights[f"w{i}"] = shape
    ports = ", ".join(f"float[N,4,5,5] v{i}" for i in outputs)
    graph = f"g (float[N,4,5,5] x) => ({ports}) {{ {'  '.join(text)} }}"
    proto = proto_of(graph, weights, data.draw(st.integers(0, 9), "seed"))
    context = calibration(proto, tmp_path, 3)
    setting = data.draw(st.sampled_from([*SETTINGS]), "setting")
    check(proto, sensitivities(Model(proto), context, [setting]), feeds_of(context, 3))


def test_the_bundled_network() -> None:
    source = open_source("zoo:fashion-resnet")
    Pipeline(parse_passes("canonicalize")).run(source.model, Context())
    found = sensitivities(source.model, Context(calibration=source.calibration), ["int8", "int4 weights"], 8)
    by = {
        setting: [e.output_db for e in found if e.setting == setting] for setting in ("int8", "int4 weights")
    }
    assert len(by["int8"]) == 12
    assert all(b < a for a, b in zip(by["int8"], by["int4 weights"], strict=True))


def test_an_empty_weight_loses_nothing(tmp_path: Path) -> None:
    proto = onnx.parser.parse_model(
        HEADER + "g (float[N,0] x) => (float[N,2] y) <float[0,2] w = {}> { y = MatMul (x, w) }"
    )
    np.savez(tmp_path / "x.npz", x=np.zeros((3, 0), np.float32))
    found = sensitivities(Model(proto), Context(calibration=Samples(tmp_path / "x.npz")))
    assert all(entry.output_db == math.inf for entry in found)
