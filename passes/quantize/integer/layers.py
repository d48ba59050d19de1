"""Recognizing layers with weights, up to their accumulator; endings.py says what becomes of it."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import onnx_graphsurgeon as gs
from numpy.typing import NDArray

from optc.passes.quantize.integer.facts import Facts, Operand
from optc.passes.quantize.integer.ops import Ending, Layer, Window
from optc.passes.quantize.integer.weights import Bias, Weight, read_bias, read_weight
from optc.passes.quantize.integer.windows import output_size
from optc.passes.quantize.scales import INT32_MAX, Code

Array = NDArray[Any]


@dataclass(frozen=True, eq=False)
class Core:
    """A layer up to its accumulator, before its ending is known.

    `nodes`: its head, and the Add of its bias; `scale`: of the accumulator, `bias`: int32 or float32 or None,
    both broadcastable against it; `weight` as a Layer holds it.
    """

    nodes: list[gs.Node]
    read: list[gs.Node]
    operand: Operand
    weight: Array
    scale: Array
    bias: Array | None
    window: Window | None
    group: int
    bound: int

    @property
    def output(self) -> gs.Tensor:
        """The float tensor whose place the accumulator takes."""
        return self.nodes[-1].outputs[0]

    @property
    def unfused(self) -> bool:
        """Whether its bias is no int32 of the accumulator's scale."""
        return self.bias is not None and self.bias.dtype != np.int32

    def op(self, ending: Ending, output: gs.Tensor) -> Layer:
        """The layer with its ending."""
        bias = None if self.unfused else self.bias
        inputs = (self.operand.codes.name,)
        return Layer(
            (),
            inputs,
            output.name,
            self.operand.code,
            self.weight,
            bias,
            self.window,
            self.group,
            ending,
            self.bound,
        )


def read_layer(node: gs.Node, facts: Facts) -> Core | str | None:
    """The layer that `node` heads; a reason where it has no integers; None where it is a product."""
    if node.op == "MatMul" and not facts.is_fixed(node.inputs[1]):
        return "its left operand is a constant" if facts.is_fixed(node.inputs[0]) else None
    operand = facts.operand(node.inputs[0])
    if isinstance(operand, str):
        return operand
    if node.op == "Gemm" and (node.attrs.get("alpha", 1.0) != 1 or node.attrs.get("transA", 0)):
        return "its alpha is not 1 or its input is transposed"
    axis = _channel_axis(node, facts)
    if axis < 0:
        return "its weight is a vector"
    weight = read_weight(node.inputs[1], axis, facts)
    return weight if isinstance(weight, str) else _core(node, operand, weight, facts)


def _channel_axis(node: gs.Node, facts: Facts) -> int:
    """The axis of the weight's output channels; negative where it is a vector."""
    if node.op in _CONVOLUTIONS:
        return _CONVOLUTIONS.index(node.op)
    if node.op == "Gemm":
        return 0 if node.attrs.get("transB", 0) else 1
    source = node.inputs[1]
    while facts.constant(source) is None:
        source = source.inputs[0].inputs[0]
    values = facts.constant(source)
    assert values is not None
    return values.ndim - 1 if values.ndim > 1 else -1


_CONVOLUTIONS = ("Conv", "ConvTranspose")
"""Each with its weight's axis of output channels at its place here."""


def _values(node: gs.Node, weight: Weight) -> Array | str:
    """The weight as a Layer holds it."""
    values = weight.values
    if node.op == "Gemm" and node.attrs.get("transB", 0):
        return np.asarray(values.T)
    if node.op != "ConvTranspose":
        return values
    group = int(node.attrs.get("group", 1))
    if group > 1 and weight.scale.size > 1:
        return "it is grouped, and its weight has a scale for each channel of a group"
    parts = values.reshape(group, -1, *values.shape[1:]).swapaxes(1, 2)
    return parts.reshape(-1, *parts.shape[2:])


def _core(node: gs.Node, operand: Operand, weight: Weight, facts: Facts) -> Core | str:
    values = _values(node, weight)
    if isinstance(values, str):
        return values
    convolution = node.op in _CONVOLUTIONS
    window = _window(node, values) if convolution else None
    if isinstance(window, str):
        return window
    channels = values.shape[0] if convolution else values.shape[-1]
    product = np.asarray(np.float32(operand.code.scale) * weight.scale, np.float32)
    nodes, read = [node], [operand.node, *weight.nodes]
    bias = _bias(node, product, channels, facts)
    if isinstance(bias, str):
        return bias
    if node.op == "MatMul":
        follower = _bias_add(node, channels, facts)
        if follower is not None:
            add, tensor = follower
            bias = read_bias(tensor, product, facts)
            if isinstance(bias, str):
                return bias
            nodes.append(add)
    if bias is not None:
        read += bias.nodes
    bound = _bound(values, convolution, operand.code, bias)
    if bound > INT32_MAX:
        return "its accumulator could overflow int32"
    tall = [-1] + [1] * (values.ndim - 2) if convolution else [-1]
    return Core(
        nodes,
        read,
        operand,
        np.ascontiguousarray(values),
        product.reshape(tall) if product.ndim else product,
        None if bias is None else bias.values.reshape(tall),
        window,
        int(node.attrs.get("group", 1)),
        bound,
    )


def _bias(node: gs.Node, product: Array, channels: int, facts: Facts) -> Bias | str | None:
    """The bias of a Conv or Gemm."""
    if node.op == "MatMul" or len(node.inputs) < 3 or node.inputs[2].is_empty():
        return None
    if node.op == "Gemm" and node.attrs.get("beta", 1.0) != 1:
        return "its beta is not 1"
    shape = _fixed_shape(node.inputs[2], facts)
    if shape is None:
        return "its bias is not a constant"
    size = int(np.prod(shape))
    if size not in (1, channels) or size != max((1, *shape[-1:])):
        return "its bias differs from row to row"
    return read_bias(node.inputs[2], product, facts)


def _bias_add(node: gs.Node, channels: int, facts: Facts) -> tuple[gs.Node, gs.Tensor] | None:
    """The Add of a constant vector right behind a MatMul, and the vector."""
    result = node.outputs[0]
    add = facts.only_reader(result)
    if add is None or add.op != "Add":
        return None
    tensor = add.inputs[1] if add.inputs[0] is result else add.inputs[0]
    return (add, tensor) if _fixed_shape(tensor, facts) == (channels,) else None


def _fixed_shape(tensor: gs.Tensor, facts: Facts) -> tuple[int, ...] | None:
    """The shape of a constant, also behind Q and DQ."""
    if not facts.is_fixed(tensor):
        return None
    while (values := facts.constant(tensor)) is None:
        tensor = tensor.inputs[0].inputs[0]
    return tuple(values.shape)


def _bound(weight: Array, convolution: bool, code: Code, bias: Bias | None) -> int:
    """The largest magnitude of any accumulator, in Python's integers."""
    magnitudes = np.abs(weight.astype(np.int64))
    axes = tuple(range(1, weight.ndim)) if convolution else -2
    sums = magnitudes.sum(axis=axes) * code.reach
    if bias is not None and bias.values.dtype == np.int32:
        sums = sums + np.abs(bias.values.astype(np.int64))
    return int(sums.max(initial=0))


def _window(node: gs.Node, weight: Array) -> Window | str:
    window = read_window(node, tuple(weight.shape[2:]))
    return window if node.op == "Conv" else _transposed(node, window)


def _transposed(node: gs.Node, window: Window) -> Window | str:
    """The window of a ConvTranspose, its pads computed where the output's size is given instead."""
    rank = len(window.kernel)
    extra = tuple(int(v) for v in node.attrs.get("output_padding", [0] * rank))
    window = replace(window, transposed=True, extra=extra, auto_pad="NOTSET")
    auto, wanted = str(node.attrs.get("auto_pad", "NOTSET")), node.attrs.get("output_shape")
    if auto not in ("SAME_UPPER", "SAME_LOWER") and wanted is None:
        return window
    natural = output_size(replace(window, pads=(0,) * 2 * rank), [1] * rank)
    if wanted is None:
        total = [n - stride for n, stride in zip(natural, window.strides, strict=True)]
    else:
        sizes = (node.inputs[0].shape or [])[2:]
        if len(sizes) != rank or not all(isinstance(s, int) for s in sizes):
            return "its output_shape needs an input of fixed size"
        grown = (n + (s - 1) * d for n, s, d in zip(natural, sizes, window.strides, strict=True))
        total = [n - int(w) for n, w in zip(grown, wanted[-rank:], strict=True)]
    if min(total) < 0:
        return "its output is larger than what its kernel reaches"
    small, large = [t // 2 for t in total], [t - t // 2 for t in total]
    return replace(window, pads=(*small, *large) if auto == "SAME_UPPER" else (*large, *small))


def read_window(node: gs.Node, kernel: tuple[int, ...]) -> Window:
    """The window of a convolution or pooling."""
    rank = len(kernel)
    ones = [1] * rank
    auto = str(node.attrs.get("auto_pad", "NOTSET"))
    return Window(
        kernel,
        tuple(int(v) for v in node.attrs.get("strides", ones)),
        tuple(int(v) for v in node.attrs.get("dilations", ones)),
        tuple(int(v) for v in node.attrs.get("pads", [0] * 2 * rank))
        if auto == "NOTSET"
        else (0,) * 2 * rank,
        "SAME_UPPER" if auto == "SAME_UPPER" else "SAME_LOWER" if auto == "SAME_LOWER" else "NOTSET",
        bool(node.attrs.get("ceil_mode", 0)),
    )
