"""Recognizing sums, pooling, concatenation and moves of codes."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import onnx_graphsurgeon as gs

from optc.passes.quantize.integer.facts import Facts, Operand, Tail
from optc.passes.quantize.integer.found import Found
from optc.passes.quantize.integer.layers import Core, read_window
from optc.passes.quantize.integer.ops import AveragePool, Concat, MaxPool, Move, Sum, Term
from optc.passes.quantize.integer.sums import exponents

_EXACT = 2**29
"""A float32 times an integer below this is exact in float64."""


def read_sum(node: gs.Node, cores: Mapping[int, Core], facts: Facts) -> Found | str:
    """An Add of codes and of layers' accumulators, or a Relu or Clip by itself.

    `cores`: the layers by the id() of their output. Only what this Add alone reads can be an accumulator.
    """
    terms: list[Term] = []
    read: list[gs.Node] = []
    names: list[str] = []
    for tensor in node.inputs if node.op == "Add" else node.inputs[:1]:
        core = cores.get(id(tensor)) if node.op == "Add" else None
        if core is not None:
            term = _accumulator(core, facts)
            if isinstance(term, str):
                return term
            terms.append(term)
            names.append(tensor.name)
            continue
        operand = facts.operand(tensor)
        if isinstance(operand, str):
            return operand
        terms.append(Term(np.asarray(operand.code.scale), operand.code.zero_point, operand.code.reach))
        names.append(operand.codes.name)
        read.append(operand.node)
    tail = facts.tail(node)
    if isinstance(tail, str):
        return tail
    op = Sum((), tuple(names), tail.output.name, tuple(terms), tail.target)
    return Found(op, [node, *tail.nodes], read)


def _accumulator(core: Core, facts: Facts) -> Term | str:
    """The accumulator of a layer as the term of an Add."""
    if facts.only_reader(core.output) is None:
        return "what it reads is float"
    if core.unfused:
        return "the bias of a layer that it adds is not of the accumulator's scale"
    if core.bound >= _EXACT and exponents(core.scale) is None:
        return "the accumulator of a layer that it adds could pass 2^29"
    return Term(core.scale, 0, core.bound)


def read_max_pool(node: gs.Node, facts: Facts) -> Found | str:
    """A MaxPool."""
    if len([t for t in node.outputs if not t.is_empty()]) > 1:
        return "it has more than one output"
    found = _moving(node, facts)
    if isinstance(found, str):
        return found
    operand, tail = found
    window = read_window(node, tuple(int(k) for k in node.attrs["kernel_shape"]))
    op = MaxPool((), (operand.codes.name,), tail.output.name, operand.code, window)
    return Found(op, [node, *tail.nodes], [operand.node])


def read_average_pool(node: gs.Node, facts: Facts) -> Found | str:
    """An AveragePool or GlobalAveragePool."""
    operand = facts.operand(node.inputs[0])
    if isinstance(operand, str):
        return operand
    tail = facts.tail(node)
    if isinstance(tail, str):
        return tail
    window = None
    if node.op == "AveragePool":
        window = read_window(node, tuple(int(k) for k in node.attrs["kernel_shape"]))
    counted = bool(node.attrs.get("count_include_pad", 0))
    op = AveragePool((), (operand.codes.name,), tail.output.name, operand.code, tail.target, window, counted)
    return Found(op, [node, *tail.nodes], [operand.node])


def read_move(node: gs.Node, facts: Facts) -> Found | str:
    """A Reshape, Transpose, Flatten, Slice, Squeeze or Unsqueeze."""
    found = _moving(node, facts)
    if isinstance(found, str):
        return found
    if "axes" in node.attrs or "starts" in node.attrs:
        return "it is of an opset below 13; run canonicalize first"
    operand, tail = found
    others = [t for t in node.inputs[1:] if not t.is_empty()]
    values = {t.name: facts.constant(t) for t in others}
    op = Move(
        (),
        (operand.codes.name,),
        tail.output.name,
        node.op,
        dict(node.attrs),
        tuple("" if t.is_empty() else t.name for t in node.inputs[1:]),
        {name: value for name, value in values.items() if value is not None},
        operand.code,
    )
    return Found(op, [node, *tail.nodes], [operand.node])


def _moving(node: gs.Node, facts: Facts) -> tuple[Operand, Tail] | str:
    """The operand and the tail of a unit that moves codes: one code for both."""
    operand = facts.operand(node.inputs[0])
    if isinstance(operand, str):
        return operand
    tail = facts.tail(node, clamps=False)
    if isinstance(tail, str):
        return tail
    if tail.target.code != operand.code:
        return "its input and its output have different codes"
    return operand, tail


def read_concat(node: gs.Node, facts: Facts) -> Found | str:
    """A Concat."""
    operands = [facts.operand(t) for t in node.inputs]
    known = [o for o in operands if isinstance(o, Operand)]
    if len(known) < len(operands):
        return next(o for o in operands if isinstance(o, str))
    tail = facts.tail(node, clamps=False)
    if isinstance(tail, str):
        return tail
    op = Concat(
        (),
        tuple(o.codes.name for o in known),
        tail.output.name,
        int(node.attrs["axis"]),
        tuple(o.code for o in known),
        tail.target.code,
    )
    return Found(op, [node, *tail.nodes], [o.node for o in known])
