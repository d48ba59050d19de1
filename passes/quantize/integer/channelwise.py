"""Recognizing Add, Max and Min of codes by constants (docs/semantics.md, "Channel by channel")."""

from __future__ import annotations

from typing import Any

import numpy as np
import onnx_graphsurgeon as gs
from numpy.typing import NDArray

from optc.passes.quantize.integer.facts import Bounds, Facts, Operand, is_quantizer
from optc.passes.quantize.integer.found import Found
from optc.passes.quantize.integer.ops import Channelwise
from optc.passes.quantize.integer.weights import Stored, stored_codes
from optc.passes.quantize.reference import SURE_TO_SATURATE, quantize

Array = NDArray[Any]


def has_constant(node: gs.Node, facts: Facts) -> bool:
    """Whether one of the node's two inputs is a constant, and the other is none."""
    return len(node.inputs) == 2 and sum(facts.is_fixed(t) for t in node.inputs) == 1


def read_channelwise(node: gs.Node, facts: Facts) -> Found | str:
    """An Add, Max or Min of codes and a constant, and the bounds behind it, up to a Q of the same code."""
    if not has_constant(node, facts):
        return f"{node.op} has no integer form here but by a constant"
    source = next(t for t in node.inputs if not facts.is_fixed(t))
    operand = facts.operand(source)
    return operand if isinstance(operand, str) else _Chain(node, operand, facts).read()


class _Chain:
    """Follows the nodes from the first to the Q, gathering what they do to the code."""

    def __init__(self, node: gs.Node, operand: Operand, facts: Facts) -> None:
        self.facts = facts
        self.operand = operand
        self.code = operand.code
        self.nodes = [node]
        self.read_nodes = [operand.node]
        self.low, self.high = (np.asarray(v - self.code.zero_point, np.int32) for v in self.code.limits)

    def read(self) -> Found | str:
        """The operation, or why there is none."""
        added = self._first()
        if isinstance(added, str):
            return added
        while (reader := self.facts.only_reader(self.nodes[-1].outputs[0])) is not None:
            if is_quantizer(reader, "QuantizeLinear"):
                return self._finished(reader, added)
            if reader.op not in ("Max", "Min", "Relu", "Clip") or self._bound(reader) is not None:
                break
            self.nodes.append(reader)
        return "its result is not quantized, or something else reads it too"

    def _first(self) -> Array | None | str:
        """What the first node adds, if it is an Add."""
        (node,) = self.nodes
        if node.op != "Add":
            return self._bound(node)
        constant = next(t for t in node.inputs if self.facts.is_fixed(t))
        stored = self._stored(constant)
        if isinstance(stored, str) or stored.scales.scale.item() != self.code.scale:
            return "one of its operands is a constant, not in codes of the other's scale"
        self.read_nodes += stored.nodes
        integers = stored.codes.astype(np.int64) - stored.scales.zero.item()
        return np.asarray(np.clip(integers, -SURE_TO_SATURATE, SURE_TO_SATURATE), np.int32)

    def _bound(self, node: gs.Node) -> str | None:
        """Apply the bounds of `node`; a reason where they are not known."""
        bounds = self._bounds(node)
        if isinstance(bounds, str):
            return bounds
        for limit, tighter in zip(bounds, (np.maximum, np.minimum), strict=True):
            if limit is not None:
                integers = self._integers(limit)
                self.low, self.high = (np.asarray(tighter(v, integers)) for v in (self.low, self.high))
        return None

    def _bounds(self, node: gs.Node) -> Bounds | str:
        if node.op in ("Relu", "Clip"):
            return self.facts.bounds(node)
        if not has_constant(node, self.facts):
            return "what it reads is float"
        constant = next(t for t in node.inputs if self.facts.is_fixed(t))
        values = self.facts.constant(constant)
        if values is None:
            stored = self._stored(constant)
            if isinstance(stored, str):
                return stored
            self.read_nodes += stored.nodes
            values = (stored.codes.astype(np.int64) - stored.scales.zero).astype(np.float32)
            values = values * stored.scales.scale.reshape(())
        if values.dtype != np.float32 or np.isnan(values).any():
            return "its constant is no float32, or NaN"
        return (values, None) if node.op == "Max" else (None, values)

    def _stored(self, constant: gs.Tensor) -> Stored | str:
        """The codes of a constant with one scale."""
        stored = stored_codes(constant, self.facts)
        if isinstance(stored, str):
            return stored
        single = stored.scales.scale.size == 1 and stored.scales.zero.size == 1
        return stored if single else "its constant has more than one scale"

    def _integers(self, values: Array) -> Array:
        """The code of a bound, less the zero point: rounding is monotone, so bounds may be rounded first."""
        span = np.float32(SURE_TO_SATURATE * np.float64(self.code.scale))
        codes = quantize(np.clip(values, -span, span), self.code, self.facts.rounding)
        return np.asarray(codes.astype(np.int32) - self.code.zero_point)

    def _finished(self, quantizer: gs.Node, added: Array | None) -> Found | str:
        code = self.facts.code(quantizer)
        if code != self.code:
            return code if isinstance(code, str) else "its input and its output have different codes"
        output = quantizer.outputs[0].name
        op = Channelwise((), (self.operand.codes.name,), output, self.code, added, self.low, self.high)
        return Found(op, [*self.nodes, quantizer], self.read_nodes)
