"""What reads a value, down to the layers that can take a factor and an offset of each of its channels."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import onnx_graphsurgeon as gs
from numpy.typing import NDArray

from optc.passes.analysis.shapes import rank_of
from optc.passes.canonicalize.edit import Edit

Array = NDArray[Any]
Doubles = NDArray[np.float64]


@dataclass(frozen=True, eq=False)
class Layer:
    """A Conv, Gemm or MatMul that reads the value; `zero`: it must find 0 where the value is 0 (padding)."""

    node: gs.Node
    zero: bool


def find_layers(edit: Edit, tensor: gs.Tensor, channels: int) -> list[Layer] | str:
    """The layers that `tensor`, of so many channels on axis 1, ends in, or why not all readers do.

    Average pooling and Flatten on the way are linear in each channel, and pass factor and offset on.
    """
    if edit.is_output(tensor):
        return f"'{tensor.name}' is an output of the model"
    local = {id(node) for node in edit.graph.nodes}
    layers: list[Layer] = []
    for node in tensor.outputs:
        if id(node) not in local or node.inputs[0] is not tensor or sum(t is tensor for t in node.inputs) > 1:
            return f"{node.op} reads it otherwise than as its first input"
        found = _through(edit, node, channels) if node.op in _PASSING else _layer(edit, node, channels)
        if isinstance(found, str):
            return found
        layers += found
    return layers or "nothing reads it"


_PASSING = ("GlobalAveragePool", "AveragePool", "Flatten")


def _through(edit: Edit, node: gs.Node, channels: int) -> list[Layer] | str:
    if node.op == "Flatten" and node.attrs.get("axis", 1) != 1:
        return "Flatten reads it with an axis other than 1"
    found = find_layers(edit, node.outputs[0], channels)
    if isinstance(found, str) or node.op != "AveragePool" or not _pads(node):
        return found
    return [Layer(layer.node, True) for layer in found]


def _layer(edit: Edit, node: gs.Node, channels: int) -> list[Layer] | str:
    weight = edit.constant_input(node, 1) if node.op in ("Conv", "Gemm", "MatMul") else None
    if weight is None or weight.dtype != np.float32:
        return f"{node.op} reads it, which is no layer with float32 weights"
    if edit.input(node, 2) is not None and edit.constant_input(node, 2) is None:
        return f"the bias of a {node.op} that reads it is no constant"
    if node.op == "Conv":
        return [Layer(node, _pads(node))]
    if weight.ndim != 2 or rank_of(node.inputs[0]) != 2 or weight.shape[_axis(node)] % channels:
        return f"{node.op} reads it, but not its channels as rows of a matrix"
    plain = node.attrs.get("alpha", 1.0) == 1 and node.attrs.get("beta", 1.0) == 1
    if not plain or node.attrs.get("transA", 0):
        return "a Gemm with alpha, beta or transA reads it"
    return [Layer(node, node.op == "MatMul")]  # a MatMul has no bias


def _axis(node: gs.Node) -> int:
    """The axis of a matrix that the input's channels meet."""
    return 1 if node.attrs.get("transB", 0) else 0


def _pads(node: gs.Node) -> bool:
    """Whether a window may reach beyond the input."""
    auto = node.attrs.get("auto_pad", "NOTSET")
    kernel = node.attrs.get("kernel_shape") or node.inputs[1].shape[2:]
    if node.attrs.get("ceil_mode", 0) or (auto.startswith("SAME") and any(k > 1 for k in kernel)):
        return True
    return auto == "NOTSET" and any(node.attrs.get("pads") or [])


def absorbed(edit: Edit, node: gs.Node, factor: Doubles, offset: Doubles) -> tuple[Array, Array | None]:
    """The weight and bias with which `node` reads `x` as it read `factor * x + offset`; both are [c].

    Float64 inside, float32 as a result; the bias is None where there was none and none is needed.
    """
    weight, bias = edit.constant_input(node, 1), edit.constant_input(node, 2)
    assert weight is not None
    exact = weight.astype(np.float64)
    if node.op == "Conv":
        group = int(node.attrs.get("group", 1))
        shape = (group, 1, -1, *[1] * (weight.ndim - 2))
        split = exact.reshape(group, -1, *weight.shape[1:])
        scaled = (split * factor.reshape(shape)).reshape(weight.shape)
        extra = (split * offset.reshape(shape)).reshape(weight.shape[0], -1).sum(axis=1)
    else:
        each = exact.shape[_axis(node)] // factor.size
        tall = (-1, 1) if _axis(node) == 0 else (1, -1)
        scaled = exact * np.repeat(factor, each).reshape(tall)
        extra = (exact * np.repeat(offset, each).reshape(tall)).sum(axis=_axis(node))
    total = extra if bias is None else bias.astype(np.float64) + extra
    with np.errstate(over="ignore"):  # the caller looks
        narrow = scaled.astype(np.float32), total.astype(np.float32)
    return narrow if bias is not None or offset.any() else (narrow[0], None)
