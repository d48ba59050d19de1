"""A quantized model as the float model that it approximates, and the ranges that its codes span."""

from __future__ import annotations

import numpy as np
import onnx_graphsurgeon as gs

from optc.models.model import Model
from optc.passes.canonicalize.edit import all_names
from optc.passes.float_ends import free_name
from optc.passes.quantize.groups import Range
from optc.passes.quantize.integer.facts import Facts, is_quantizer
from optc.passes.quantize.integer.weights import stored_codes
from optc.passes.quantize.scales import Code

_CLAMPED = frozenset(("Conv", "ConvTranspose", "Gemm", "MatMul", "Add"))
"""Operators that take in a Clip behind them; a Q behind one of these often stands for a Relu, too."""


def strip(model: Model) -> dict[str, Range]:
    """Take Q and DQ off `model`; the range of each value that had a code, by its name.

    Weights become floats. Where a Q cuts off what is negative, a Clip to its range does so. A Q and DQ whose
    scales are not constants, or more than one for an activation, stay.
    """
    facts = Facts(model, "even")
    weights = [n for n in facts.nodes if _is_dq(n) and facts.is_fixed(n.inputs[0])]
    pairs = [(n, code) for n in facts.nodes if (code := _code(n, facts)) is not None]
    if not pairs:
        return {}
    graph, names = model.graph, all_names(model.view)
    for node in weights:
        _fold(node, facts)
    ranges: dict[str, Range] = {}
    for node, code in pairs:
        value = _bypassed(graph, node, code, names)
        low, high = _range(code)
        known = ranges.get(value.name, (low, high))
        ranges[value.name] = min(known[0], low), max(known[1], high)
    graph.cleanup().toposort()
    return ranges


def _is_dq(node: gs.Node) -> bool:
    return is_quantizer(node, "DequantizeLinear")


def _code(node: gs.Node, facts: Facts) -> Code | None:
    """The code of an activation's Q that only DQs of the same code read."""
    if not is_quantizer(node, "QuantizeLinear") or facts.is_fixed(node.inputs[0]):
        return None
    codes, code = node.outputs[0], facts.code(node)
    if isinstance(code, str) or id(codes) in facts.ends or not codes.outputs:
        return None
    same = all(_is_dq(reader) and facts.code(reader) == code for reader in codes.outputs)
    return code if same else None


def _range(code: Code) -> Range:
    """What the codes span; of symmetric int8 without -128, which `quantize` would make room for else."""
    if code.dtype == np.int8 and code.zero_point == 0:
        return -127 * float(code.scale), 127 * float(code.scale)
    low, high = ((limit - code.zero_point) * float(code.scale) for limit in code.limits)
    return low, high


def _fold(node: gs.Node, facts: Facts) -> None:
    """A DQ of constant codes as the constant floats."""
    output = node.outputs[0]
    stored = stored_codes(output, facts)
    if isinstance(stored, str) or id(output) in facts.ends:
        return
    scale, zero = stored.scales.scale, stored.scales.zero
    if scale.size > 1:
        tall = [-1 if a == stored.scales.axis % stored.codes.ndim else 1 for a in range(stored.codes.ndim)]
        scale, zero = scale.reshape(tall), zero.reshape(tall)
    floats = (stored.codes.astype(np.int64) - zero.astype(np.int64)).astype(np.float32) * scale
    node.outputs.clear()
    constant = gs.Constant(output.name, np.asarray(floats.reshape(stored.codes.shape), np.float32))
    _let_read(list(output.outputs), output, constant)


def _let_read(readers: list[gs.Node], old: gs.Tensor, new: gs.Tensor) -> None:
    for reader in readers:
        reader.inputs = [new if t is old else t for t in reader.inputs]


def _bypassed(graph: gs.Graph, node: gs.Node, code: Code, names: set[str]) -> gs.Tensor:
    """Let all that reads the DQs of a Q read its input, within the range of `code`; what they read."""
    value = _within(graph, node, code, names)
    for reader in list(node.outputs[0].outputs):
        output = reader.outputs[0]
        _let_read(list(output.outputs), output, value)
        if any(t is output for t in graph.outputs):
            reader.outputs.clear()
            name = free_name(f"{output.name}_Identity", names)
            graph.nodes.append(gs.Node("Identity", name, inputs=[value], outputs=[output]))
    return value


def _within(graph: gs.Graph, node: gs.Node, code: Code, names: set[str]) -> gs.Tensor:
    """The input of a Q, cut to the range of `code` where that stands for a Relu or Clip."""
    source = node.inputs[0]
    maker = source.inputs[0] if source.inputs else None
    low, high = _range(code)
    if maker is None or low < 0 or maker.op not in _CLAMPED | {"Relu"}:
        return source
    relu = maker.op == "Relu"
    bounds = [
        gs.Constant(free_name(f"{node.outputs[0].name}_{end}", names), np.asarray(value, np.float32))
        for end, value in (("low", low), ("high", high))
    ]
    if relu:
        if len(source.outputs) == 1 and not any(t is source for t in graph.outputs):
            maker.op, maker.inputs = "Clip", [maker.inputs[0], *bounds]
        return source
    cut = gs.Variable(free_name(f"{node.outputs[0].name}_cut", names), np.dtype(np.float32), source.shape)
    name = free_name(f"{cut.name}_Clip", names)
    graph.nodes.append(gs.Node("Clip", name, inputs=[source, *bounds], outputs=[cut]))
    return cut
