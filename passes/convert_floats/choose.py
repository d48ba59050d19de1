"""Which nodes become small, and why the others do not."""

from __future__ import annotations

import math
from collections.abc import Iterator

import numpy as np
import onnx_graphsurgeon as gs

from optc.passes.canonicalize.edit import has_subgraph
from optc.passes.convert_floats.small import FLOATS, Plan, Small, plan
from optc.passes.convert_floats.values import Values, largest

_SQUARES = "it adds up squares, which takes float32's range and precision"
_SUMS = "it adds up many values, which takes float32's range and precision"
_GROWS = "it grows so fast that its result soon passes the range"

DELICATE = {
    "GroupNormalization": _SQUARES,
    "InstanceNormalization": _SQUARES,
    "LayerNormalization": _SQUARES,
    "LpNormalization": _SQUARES,
    "MeanVarianceNormalization": _SQUARES,
    "RMSNormalization": _SQUARES,
    "LRN": _SQUARES,
    "LpPool": _SQUARES,
    "GlobalLpPool": _SQUARES,
    "ReduceL2": _SQUARES,
    "ReduceSumSquare": _SQUARES,
    "CumSum": _SUMS,
    "ReduceL1": _SUMS,
    "ReduceLogSum": _SUMS,
    "ReduceLogSumExp": _SUMS,
    "ReduceMean": _SUMS,
    "ReduceSum": _SUMS,
    "Exp": _GROWS,
    "Pow": _GROWS,
    "ReduceProd": _GROWS,
    "Softplus": "the exponential within it soon passes the range",
}
"""Operators that stay float32: reductions, as in mixed-precision training (P. Micikevicius et al., "Mixed
Precision Training", ICLR 2018, section 3.3), and powers. Softmax stays where its axis is long: see `_sum`.
"""

_CODES = {"QuantizeLinear", "DequantizeLinear", "DynamicQuantizeLinear"}
_LAYERS = {"Conv", "ConvTranspose", "Gemm", "MatMul"}

HEADROOM = 0.5
"""A node whose output was seen beyond this share of the largest number stays float32."""


class Chooser:
    """Says of each node whether it can take the `small` type, from its operator and the numbers seen.

    `opsets`: the version of each domain; `seen`: the largest magnitudes, by name; `kept`: names that the
    user wants float32.
    """

    def __init__(
        self, values: Values, small: Small, opsets: dict[str, int], seen: dict[str, float], kept: set[int]
    ) -> None:
        self._values, self._small, self._opsets = values, small, opsets
        self._seen, self._kept = seen, kept

    def plan(self, node: gs.Node) -> Plan | str | None:
        """What of `node` becomes small; why nothing does; None where it has nothing to do with float32."""
        inputs = [i for i, t in enumerate(node.inputs) if self._values.is_wide(t)]
        outputs = [i for i, t in enumerate(node.outputs) if self._values.is_wide(t)]
        if not outputs and (not inputs or any(self._values.element(t) in FLOATS for t in node.outputs)):
            return None
        if has_subgraph(node):
            return "the graphs inside it stay float32"
        reason = self._listed(node) or self._untyped(node)
        if reason:
            return reason
        domain = "" if node.domain in (None, "ai.onnx") else node.domain
        found = plan(node, inputs, outputs, self._opsets.get(domain), self._small)
        return found if isinstance(found, str) else self._constants(found) or self._overflow(found) or found

    def may_overflow(self, node: gs.Node) -> bool:
        """Whether a float32 result of `node` may pass the range of the small type, as far as can be told."""
        made = max((self._seen.get(t.name, 0.0) for t in node.outputs), default=0.0)
        constants = (self._values.numbers(t) for t in node.inputs)
        stored = max((largest(c) for c in constants if c is not None), default=0.0)
        unseen = not self._seen and DELICATE.get(node.op) == _GROWS
        return unseen or made > HEADROOM * self._small.largest or stored > self._small.largest

    def _listed(self, node: gs.Node) -> str | None:
        if id(node) in self._kept:
            return "the option keep names it"
        coded = any(n.op in _CODES for n in _neighbours(node)) and not self._float_layer(node)
        if node.op in _CODES or coded:
            return "it belongs to the quantized part, whose scales are float32"
        return DELICATE.get(node.op) or self._sum(node)

    def _float_layer(self, node: gs.Node) -> bool:
        """Whether `node` is a layer that quantization left float: its weight is a float constant."""
        weight = self._values.constant(node.inputs[1]) if node.op in _LAYERS else None
        return weight is not None and weight.dtype == np.float32

    def _sum(self, node: gs.Node) -> str | None:
        """A Softmax adds up as many exponentials as its axis is long."""
        if node.op not in ("Softmax", "LogSoftmax"):
            return None
        old = self._opsets.get("", 1) < 13
        dims, axis = self._values.dims(node.inputs[0]), node.attrs.get("axis", 1 if old else -1)
        summed = [] if dims is None else dims[axis:] if old else [dims[axis]]
        longest = 2**self._small.digits
        if summed and None not in summed and math.prod(d for d in summed if d is not None) <= longest:
            return None
        return f"its axis may be longer than {longest}: {_SUMS}"

    def _untyped(self, node: gs.Node) -> str | None:
        used = (t for t in node.outputs if t.outputs or t.name in self._values.outputs)
        for tensor in (*node.inputs, *used):
            if not tensor.is_empty() and not self._values.element(tensor):
                return f"'{tensor.name}' is no tensor of a known type"
        return None

    def _constants(self, found: Plan) -> str | None:
        small = self._small
        for tensor in (found.node.inputs[i] for i in found.inputs):
            values = self._values.numbers(tensor)
            if values is None:
                if isinstance(tensor, gs.Constant) and tensor.name not in self._values.inputs:
                    return f"its constant '{tensor.name}' is stored sparse"
                continue
            size = largest(values)
            if size > small.largest:
                return f"its constant '{tensor.name}' reaches {size:.3g}, {small.name} {small.largest:g}"
            if 0 < size < small.normal:
                return f"its constant '{tensor.name}' is {size:.3g} at most, too small for {small.name}"
        return None

    def _overflow(self, found: Plan) -> str | None:
        node, small = found.node, self._small
        made = [self._seen.get(node.outputs[i].name, 0.0) for i in found.outputs]
        if max(made, default=0.0) > HEADROOM * small.largest:
            return f"its output reached {max(made):.3g} on the samples, {small.name} {small.largest:g}"
        for tensor in (node.inputs[i] for i in found.inputs):
            if self._seen.get(tensor.name, 0.0) > small.largest:
                reached = f"reached {self._seen[tensor.name]:.3g} on the samples"
                return f"its input '{tensor.name}' {reached}, {small.name} {small.largest:g}"
        return None


def _neighbours(node: gs.Node) -> Iterator[gs.Node]:
    for tensor in node.inputs:
        yield from tensor.inputs
    for tensor in node.outputs:
        yield from tensor.outputs


def underflow(values: np.ndarray, small: Small) -> tuple[int, int]:
    """How many of the float32 `values`, not 0, become 0 in the `small` type, and how many subnormal."""
    rounded = np.abs(small.array(values).astype(np.float32))
    lost = np.count_nonzero((rounded == 0) & (values != 0))
    return int(lost), int(np.count_nonzero((rounded > 0) & (rounded < small.normal)))
