"""What a node must look like to have an integer form: one function an operator."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import onnx_graphsurgeon as gs

from optc.passes.quantize.channelwise import read_channelwise
from optc.passes.quantize.units import Surroundings, Unit


def recognize(node: gs.Node, around: Surroundings) -> Unit | str:
    """The unit that `node` heads, or why it has no integer form."""
    if node.op not in _OPS or node.domain not in (None, "", "ai.onnx"):
        return REASONS.get(node.op, f"{node.op} has no integer form here")
    found = _OPS[node.op](node, around)
    if isinstance(found, str):
        return found
    if found.seed and any(p.op == "DequantizeLinear" for t in found.operands for p in t.inputs):
        return "its input is quantized already"
    if not found.shares:
        _absorb_bias(found, around)
        _absorb_clamp(found, around)
    return found


def _absorb_bias(unit: Unit, around: Surroundings) -> None:
    """Take in the Add of a vector that follows a MatMul with weights."""
    follower = around.only_reader(unit.output)
    if unit.head.op != "MatMul" or unit.weight is None or follower is None or follower.op != "Add":
        return
    bias = follower.inputs[1] if follower.inputs[0] is unit.output else follower.inputs[0]
    if around.fixed(bias) and tuple(bias.shape) == (unit.weight.shape[unit.axis],):
        unit.bias = bias
        unit.nodes.append(follower)


def _absorb_clamp(unit: Unit, around: Surroundings) -> None:
    """Take in the Relu or Clip that follows."""
    follower = around.only_reader(unit.output)
    if follower is None or follower.op not in ("Relu", "Clip") or unit.head.op in ("Relu", "Clip"):
        return
    if around.clamps(follower) and follower.inputs[0] is unit.output:
        unit.nodes.append(follower)


def _convolution(node: gs.Node, around: Surroundings) -> Unit | str:
    reason = around.weight_reason(node.inputs[1])
    bias = _optional(node, 2)
    if reason is None and bias is not None and not around.fixed(bias):
        reason = "its bias is not a float32 constant"
    axis = 0
    if node.op == "ConvTranspose":
        axis = 1
        if reason is None and node.attrs.get("group", 1) != 1:
            reason = "it is grouped, so that its weight has no axis of output channels"
    return reason or Unit([node], [node.inputs[0]], node.inputs[1], bias, axis, seed=True)


def _gemm(node: gs.Node, around: Surroundings) -> Unit | str:
    reason = around.weight_reason(node.inputs[1])
    axis = 0 if node.attrs.get("transB", 0) else 1
    bias = _optional(node, 2)
    if reason is None and (node.attrs.get("alpha", 1.0) != 1 or node.attrs.get("transA", 0)):
        reason = "its alpha is not 1 or its input is transposed"
    if reason is None and bias is not None:
        columns = node.inputs[1].shape[axis]
        if not around.fixed(bias) or node.attrs.get("beta", 1.0) != 1:
            reason = "its bias is not a float32 constant, or beta is not 1"
        elif bias.values.size not in (1, columns) or bias.values.size != max((1, *bias.shape[-1:])):
            reason = "its bias differs from row to row"
    return reason or Unit([node], [node.inputs[0]], node.inputs[1], bias, axis, seed=True, accumulates=True)


def _matmul(node: gs.Node, around: Surroundings) -> Unit | str:
    left, right = node.inputs
    if around.varies(left) and around.varies(right):
        return _product(node)
    if not around.varies(left):
        return "its left operand is a constant"
    reason = around.weight_reason(right)
    if reason is None and len(right.shape) < 2:
        reason = "its weight is a vector"
    return reason or Unit([node], [left], right, None, len(right.shape) - 1, seed=True, accumulates=True)


def _product(node: gs.Node) -> Unit | str:
    """A MatMul of two activations."""
    if not all(_is_float32(t) for t in node.inputs):
        return "its operands are not known to be float32 (run canonicalize first: it infers types)"
    return Unit([node], list(node.inputs), seed=True, accumulates=True)


def _is_float32(tensor: gs.Tensor) -> bool:
    return bool(tensor.dtype is not None and tensor.dtype == np.float32)


def _sum(node: gs.Node, around: Surroundings) -> Unit | str:
    if all(around.varies(t) for t in node.inputs):
        return _own(node, around)
    return read_channelwise(node, around) or _CONSTANT_OPERAND


def _bound(node: gs.Node, around: Surroundings) -> Unit | str:
    """A Max or Min."""
    return read_channelwise(node, around) or f"{node.op} has no integer form here but by a constant a channel"


def _concat(node: gs.Node, around: Surroundings) -> Unit | str:
    if not all(around.varies(t) for t in node.inputs):
        return _CONSTANT_OPERAND
    return Unit([node], list(node.inputs), shares=True)


def _own(node: gs.Node, around: Surroundings) -> Unit | str:
    """A unit that computes codes of its own from those it reads."""
    if node.op == "Clip" and not around.clamps(node):
        return "its bounds are computed at run time"
    return Unit([node], list(node.inputs) if node.op == "Add" else [node.inputs[0]])


def _moved(node: gs.Node, around: Surroundings) -> Unit | str:
    """A unit whose output holds codes of its operand, moved or selected."""
    if len([t for t in node.outputs if not t.is_empty()]) > 1:
        return "it has more than one output"
    return Unit([node], [node.inputs[0]], shares=True)


def _optional(node: gs.Node, index: int) -> gs.Tensor | None:
    return node.inputs[index] if index < len(node.inputs) and not node.inputs[index].is_empty() else None


_CONSTANT_OPERAND = "one of its operands is a constant"

_OPS: dict[str, Callable[[gs.Node, Surroundings], Unit | str]] = {
    "Conv": _convolution,
    "ConvTranspose": _convolution,
    "Gemm": _gemm,
    "MatMul": _matmul,
    "Add": _sum,
    "Max": _bound,
    "Min": _bound,
    "Concat": _concat,
    "Relu": _own,
    "Clip": _own,
    "AveragePool": _own,
    "GlobalAveragePool": _own,
    "MaxPool": _moved,
    "Flatten": _moved,
    "Reshape": _moved,
    "Transpose": _moved,
    "Slice": _moved,
    "Squeeze": _moved,
    "Unsqueeze": _moved,
}
"""Operator, and the function that recognizes its unit or says why it is none."""

REASONS = {
    "BatchNormalization": "it is not folded into a layer; run canonicalize first",
}
