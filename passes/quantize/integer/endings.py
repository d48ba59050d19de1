"""What becomes of accumulators: the endings of layers and of products of two activations."""

from __future__ import annotations

from typing import Any

import numpy as np
import onnx_graphsurgeon as gs
from numpy.typing import NDArray

from optc.passes.quantize.integer.facts import Facts, Tail
from optc.passes.quantize.integer.found import Found
from optc.passes.quantize.integer.layers import Core
from optc.passes.quantize.integer.ops import (
    Biased,
    Clamped,
    Ending,
    Product,
    Scaled,
    Shifted,
    ToAccumulator,
    ToFloat,
)
from optc.passes.quantize.integer.sums import exponents
from optc.passes.quantize.scales import INT32_MAX

Array = NDArray[Any]


def finish_layer(core: Core, accumulates: bool, facts: Facts) -> Found:
    """The layer with its ending: to codes where a Q alone reads it; an accumulator; or float."""
    tail = facts.tail(core.nodes[-1])
    if isinstance(tail, Tail):
        op = core.op(_to_codes(core, tail.target), tail.output)
        return Found(op, [*core.nodes, *tail.nodes], core.read)
    if accumulates:
        ending: Ending = ToAccumulator(core.scale)
    else:
        ending = ToFloat(core.scale, core.bias if core.unfused else None)
    return Found(core.op(ending, core.output), core.nodes, core.read)


def _to_codes(core: Core, target: Clamped) -> Scaled | Shifted | Biased:
    if core.unfused and core.bias is not None:
        return Biased(target, core.scale, core.bias)
    return requantization(core.scale, target)


def requantization(scale: Array, target: Clamped) -> Scaled | Shifted:
    """A shift where all scales are powers of two, else a multiplier; `scale`: the accumulator's."""
    unit, code = exponents(scale), exponents(np.asarray(target.code.scale))
    if unit is not None and code is not None:
        return Shifted(target, np.asarray(code - unit))
    return Scaled(target, np.asarray(scale / np.float32(target.code.scale), np.float32))


def read_product(node: gs.Node, facts: Facts) -> Found | str:
    """A MatMul of two activations."""
    left, right = (facts.operand(t) for t in node.inputs)
    if isinstance(left, str):
        return left
    if isinstance(right, str):
        return right
    length = next((d for d in _lengths(left.codes, right.codes) if isinstance(d, int)), 1)
    if length * left.code.reach * right.code.reach > INT32_MAX:
        return "its accumulator could overflow int32"
    scale = np.asarray(np.float32(left.code.scale) * np.float32(right.code.scale))
    tail = facts.tail(node)
    ending = requantization(scale, tail.target) if isinstance(tail, Tail) else ToFloat(scale)
    output = tail.output if isinstance(tail, Tail) else node.outputs[0]
    inputs = (left.codes.name, right.codes.name)
    op = Product((), inputs, output.name, (left.code, right.code), ending)
    nodes = [node, *tail.nodes] if isinstance(tail, Tail) else [node]
    return Found(op, nodes, [left.node, right.node])


def _lengths(*codes: gs.Tensor) -> list[Any]:
    """What is known of how many products each entry of a MatMul's result sums."""
    left, right = (next((list(t.shape) for t in (c, *_floats(c)) if t.shape), []) for c in codes)
    return [*left[-1:], *(right[-2:-1] if len(right) > 1 else right)]


def _floats(codes: gs.Tensor) -> list[gs.Tensor]:
    """What the DQs of `codes` write, which has the same shape."""
    return [t for node in codes.outputs for t in node.outputs if node.op == "DequantizeLinear"]
