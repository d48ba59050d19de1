"""Random float networks that quantize turns into integers: hypothesis strategies, shared by test folders."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import onnx
from hypothesis import strategies as st
from onnx import TensorProto, helper, numpy_helper

from optc.models.data import Samples
from optc.models.model import Model
from optc.passes.base import Context
from optc.passes.quantize.quantize import Quantize

Draw = Callable[[st.SearchStrategy[Any]], Any]
Shape = tuple[int, ...]


@dataclass
class Network:
    """A float model of one input `x`, the shape of its samples, and where its numbers come from."""

    model: onnx.ModelProto
    shape: Shape
    seed: int
    batch: int

    def samples(self, count: int) -> np.ndarray:
        return np.random.default_rng(self.seed).standard_normal((count, *self.shape)).astype(np.float32)

    def quantized(self, folder: Path, **options: Any) -> Model:
        """The network quantized over 8 samples; a fresh model each time."""
        path = folder / f"calibration-{self.seed}.npz"
        np.savez(path, x=self.samples(8))
        model = Model(onnx.ModelProto.FromString(self.model.SerializeToString()))
        Quantize(**options).run(model, Context(calibration=Samples(path)))
        return model

    def feeds(self) -> dict[str, np.ndarray]:
        """Inputs some of which pass the calibrated range."""
        x = np.random.default_rng(self.seed + 1).standard_normal((self.batch, *self.shape)) * 1.5
        return {"x": x.astype(np.float32)}


@dataclass
class _Builder:
    draw: Draw
    seed: int
    nodes: list[onnx.NodeProto] = field(default_factory=list)
    constants: list[onnx.TensorProto] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.rng = np.random.default_rng(self.seed)

    def one_of(self, *choices: Any) -> Any:
        return self.draw(st.sampled_from(choices))

    def constant(self, values: Any, dtype: Any = np.float32) -> str:
        name = f"c{len(self.constants)}"
        self.constants.append(numpy_helper.from_array(np.asarray(values, dtype), name))
        return name

    def weight(self, *shape: int, fan: int) -> str:
        return self.constant(self.rng.standard_normal(shape) / np.sqrt(fan))

    def node(self, op: str, inputs: list[str], **attributes: Any) -> str:
        name = f"v{len(self.nodes)}"
        self.nodes.append(helper.make_node(op, inputs, [name], **attributes))
        return name

    def activated(self, value: str) -> str:
        kind = self.one_of("none", "Relu", "Relu", "Clip")
        if kind == "Clip":
            return self.node("Clip", [value, self.constant(self.one_of(-0.5, 0.0)), self.constant(1.25)])
        return value if kind == "none" else self.node(kind, [value])

    def finish(self, shape: Shape, outputs: list[str], free: bool, batch: int) -> Network:
        info = [helper.make_tensor_value_info(n, TensorProto.FLOAT, None) for n in dict.fromkeys(outputs)]
        x = helper.make_tensor_value_info("x", TensorProto.FLOAT, ["N" if free else 1, *shape])
        graph = helper.make_graph(self.nodes, "network", [x], info, self.constants)
        model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 21)], ir_version=10)
        model = onnx.shape_inference.infer_shapes(model, strict_mode=True, data_prop=True)
        return Network(model, shape, self.seed, batch if free else 1)


@st.composite
def networks(draw: Draw) -> Network:
    """A convolutional network or a stack of matrix products, of a few layers."""
    build = _Builder(draw, draw(st.integers(0, 2**16)))
    return (_convolutional if draw(st.integers(0, 2)) else _perceptron)(build)


@dataclass
class _Map:
    name: str
    shape: Shape
    """Channels, then the spatial sizes."""


def _convolutional(build: _Builder) -> Network:
    rank = build.one_of(1, 2, 2, 2, 3)
    shape = (build.one_of(1, 2, 4), *[build.one_of(6, 7, 8) for _ in range(rank)])
    maps = [_Map("x", shape)]
    maps.append(_convolution(build, maps[-1]))
    for _ in range(build.draw(st.integers(1, 4))):
        step = build.one_of(
            _convolution, _residual, _residual, _channelwise, _concat, _max_pool, _average_pool, _slice
        )
        maps.append(step(build, build.one_of(*maps[-2:])))
    outputs = [maps[-1].name]
    if build.one_of(True, False):
        outputs = [_head(build, maps[-1])]
    return build.finish(shape, outputs, build.one_of(True, False), 2)


def _window(build: _Builder, sizes: Shape, dilate: bool) -> tuple[dict[str, Any], Shape]:
    """Attributes of a random window over `sizes`, and the output's sizes."""
    rank = len(sizes)
    kernel = [build.one_of(1, 2, 3) if s >= 3 else 1 for s in sizes]
    strides = [min(build.one_of(1, 1, 2), k) for k in kernel]  # ONNX Runtime fails on SAME with gaps
    dilations = [
        build.one_of(1, 2) if dilate and (k - 1) * 2 < s else 1 for k, s in zip(kernel, sizes, strict=True)
    ]
    pads = [build.draw(st.integers(0, k - 1)) for k in kernel * 2]
    attributes: dict[str, Any] = {"kernel_shape": kernel, "strides": strides}
    if dilate:
        attributes["dilations"] = dilations
    auto = build.one_of("NOTSET", "NOTSET", "SAME_UPPER", "SAME_LOWER", "VALID")
    if auto != "NOTSET" and all(d == 1 for d in dilations):
        attributes["auto_pad"] = auto
        pads = [0] * (2 * rank)
    else:
        attributes["pads"] = pads
    if auto.startswith("SAME") and "auto_pad" in attributes:
        return attributes, tuple(-(-s // t) for s, t in zip(sizes, strides, strict=True))
    spans = [
        (s + pads[i] + pads[rank + i] - (k - 1) * d - 1) // t
        for i, (s, k, d, t) in enumerate(zip(sizes, kernel, dilations, strides, strict=True))
    ]
    return attributes, tuple(s + 1 for s in spans)


def _convolution(build: _Builder, source: _Map, activate: bool = True) -> _Map:
    channels = source.shape[0]
    group = build.one_of(1, 1, channels, 2 if channels % 2 == 0 else 1)
    attributes, sizes = _window(build, source.shape[1:], dilate=True)
    out = group * build.one_of(1, 2)
    kernel = attributes["kernel_shape"]
    fan = channels // group * int(np.prod(kernel))
    inputs = [source.name, build.weight(out, channels // group, *kernel, fan=fan)]
    if build.one_of(True, True, False):
        inputs.append(build.weight(out, fan=1))
    name = build.node("Conv", inputs, group=group, **attributes)
    return _Map(build.activated(name) if activate else name, (out, *sizes))


def _same(build: _Builder, source: _Map) -> str:
    """A convolution of 1x1 that keeps the shape, with no activation."""
    channels, rank = source.shape[0], len(source.shape) - 1
    inputs = [source.name, build.weight(channels, channels, *[1] * rank, fan=channels)]
    return build.node("Conv", [*inputs, build.weight(channels, fan=1)])


def _residual(build: _Builder, source: _Map) -> _Map:
    left = _same(build, source)
    right = build.one_of(source.name, _same(build, source))
    operands = [left, right] if build.one_of(True, False) else [right, left]
    return _Map(build.activated(build.node("Add", operands)), source.shape)


def _channelwise(build: _Builder, source: _Map) -> _Map:
    """Add, Max and Min by constants, then maybe a Relu, and a convolution."""
    shape = build.one_of((), (source.shape[0], *[1] * (len(source.shape) - 1)))
    value = source.name
    for op in build.one_of(["Add"], ["Max"], ["Add", "Max", "Min"], ["Min", "Max"]):
        operands = [value, build.constant(build.rng.standard_normal(shape) * build.one_of(0.3, 2, 20))]
        value = build.node(op, operands if build.one_of(True, False) else operands[::-1])
    return _convolution(build, _Map(build.activated(value), source.shape))


def _concat(build: _Builder, source: _Map) -> _Map:
    other = _same(build, source)
    if build.one_of(True, False):
        other = build.activated(other)
    name = build.node("Concat", [source.name, other], axis=1)
    return _Map(name, (2 * source.shape[0], *source.shape[1:]))


def _max_pool(build: _Builder, source: _Map) -> _Map:
    attributes, sizes = _window(build, source.shape[1:], dilate=False)
    return _Map(build.node("MaxPool", [source.name], **attributes), (source.shape[0], *sizes))


def _average_pool(build: _Builder, source: _Map) -> _Map:
    attributes, sizes = _window(build, source.shape[1:], dilate=False)
    counted = build.one_of(0, 1)
    name = build.node("AveragePool", [source.name], count_include_pad=counted, **attributes)
    return _Map(name, (source.shape[0], *sizes))


def _slice(build: _Builder, source: _Map) -> _Map:
    last = len(source.shape)
    numbers = [build.constant([v], np.int64) for v in (source.shape[-1], -(2**31), last, -1)]
    return _Map(build.node("Slice", [source.name, *numbers]), source.shape)


def _head(build: _Builder, source: _Map) -> str:
    channels = source.shape[0]
    value = build.node("GlobalAveragePool", [source.name])
    flat = build.one_of("Flatten", "Reshape", "Squeeze")
    if flat == "Flatten":
        value = build.node("Flatten", [value])
    elif flat == "Reshape":
        value = build.node("Reshape", [value, build.constant([0, -1], np.int64)])
    else:
        axes = build.constant(range(2, 1 + len(source.shape)), np.int64)
        value = build.node("Squeeze", [value, axes])
    value = build.node(
        "Gemm", [value, build.weight(5, channels, fan=channels), build.weight(5, fan=1)], transB=1
    )
    return build.activated(value)


def _perceptron(build: _Builder) -> Network:
    """Blocks of [tokens, width]: dense layers, residuals, products of activations."""
    tokens, width = build.one_of(3, 5), build.one_of(4, 6)
    value = _dense(build, "x", width)
    for _ in range(build.draw(st.integers(1, 3))):
        block = build.one_of("dense", "residual", "product")
        if block == "dense":
            value = build.activated(_dense(build, value, width))
        elif block == "residual":
            value = build.activated(build.node("Add", [value, _dense(build, value, width)]))
        else:
            turned = build.node("Transpose", [_dense(build, value, width)], perm=[0, 2, 1])
            scores = build.node("MatMul", [_dense(build, value, width), turned])
            value = build.node("MatMul", [scores, value])
    return build.finish((tokens, width), [value], build.one_of(True, False), 3)


def _dense(build: _Builder, value: str, width: int) -> str:
    result = build.node("MatMul", [value, build.weight(width, width, fan=width)])
    if build.one_of(True, False):
        operands = [result, build.weight(width, fan=4)]
        result = build.node("Add", operands if build.one_of(True, False) else operands[::-1])
    return result
