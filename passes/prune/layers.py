"""Which weights of a model pruning may touch."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from fnmatch import fnmatchcase

import numpy as np
import onnx_graphsurgeon as gs
from onnx import TensorProto
from onnx_graphsurgeon.ir.tensor import SparseValues

from optc.models.errors import InputError
from optc.models.export import element_type
from optc.models.model import Model

WEIGHT_INPUTS = {"Conv": (1,), "ConvTranspose": (1,), "Gemm": (1, 0), "MatMul": (1, 0)}
"""Operator, and the inputs that may be its weight: the first of them that is a constant is."""

_DTYPES = {np.dtype(np.float16), np.dtype(np.float32), np.dtype(np.float64)}
_SHOWN = 12

Decline = Callable[[gs.Node, str], None]


@dataclass(frozen=True)
class Layer:
    """A weight and the first node that uses it, by whose name patterns choose and reports speak."""

    name: str
    node: gs.Node
    weight: gs.Constant

    @property
    def index(self) -> int:
        """At which input of the node the weight stands."""
        return next(i for i, t in enumerate(self.node.inputs) if t is self.weight)


def layer_name(node: gs.Node) -> str:
    """The node's name, or its output's where it has none."""
    return str(node.name or node.outputs[0].name)


def find_layers(model: Model, decline: Decline) -> list[Layer]:
    """The layers of the main graph whose weights can be pruned, in graph order, each weight once.

    `decline` is told of every layer that cannot, and why. A MatMul of two activations has no weight.
    """
    layers: list[Layer] = []
    seen: set[int] = set()
    for node in model.view.nodes:
        if node.op not in WEIGHT_INPUTS or node.domain not in (None, "", "ai.onnx"):
            continue
        inputs = [node.inputs[i] for i in WEIGHT_INPUTS[node.op] if i < len(node.inputs)]
        weight = next((t for t in inputs if isinstance(t, gs.Constant)), None)
        reason = _reason(node, inputs, weight, model)
        if reason:
            decline(node, reason)
        elif weight is not None and id(weight) not in seen:
            seen.add(id(weight))
            layers.append(Layer(layer_name(node), node, weight))
    return layers


def _reason(node: gs.Node, inputs: list[gs.Tensor], weight: gs.Constant | None, model: Model) -> str | None:
    """Why the weight of `node` is to be left alone, or None."""
    if weight is None:
        if any(p.op == "DequantizeLinear" for p in inputs[0].inputs):
            return "its weight is quantized; prune before quantize"
        return None if node.op == "MatMul" else "its weight is computed at run time"
    if weight.name in model.overridable:
        return "its weight is also a graph input, which a caller may override"
    if isinstance(weight._values, SparseValues):
        return "its weight is stored sparse"
    if weight.dtype not in _DTYPES:
        kind = TensorProto.DataType.Name(element_type(weight.dtype))
        return f"its weight is {kind}; FLOAT16, FLOAT and DOUBLE are pruned"
    if len(weight.shape) < 2 or 0 in weight.shape:
        return f"its weight has the shape {list(weight.shape)}: no matrix to prune"
    other = next((n for n in weight.outputs if n.op not in WEIGHT_INPUTS), None)
    if other is not None:
        return f"its weight is also read by {layer_name(other)} ({other.op})"
    return None


def match_patterns(who: str, names: list[str], patterns: tuple[str, ...], what: str = "layer") -> list[str]:
    """The `names` of layers, or `what` they are, that match one of the patterns (`fnmatch`, with case).

    Raises `InputError`, naming those there are, for a pattern that matches nothing; `who` says whose.
    """
    for pattern in patterns:
        if not any(fnmatchcase(name, pattern) for name in names):
            more = f" and {len(names) - _SHOWN} more" if len(names) > _SHOWN else ""
            known = ", ".join(names[:_SHOWN]) or "none"
            raise InputError(f"{who}: no {what} matches '{pattern}'; the {what}s are {known}{more}")
    return [name for name in names if any(fnmatchcase(name, p) for p in patterns)]


def choose_layers(layers: list[Layer], patterns: tuple[str, ...], skip: tuple[str, ...] = ()) -> list[Layer]:
    """The layers that match `patterns` (all, where there are none), without those that match `skip`.

    Raises `InputError` as `match_patterns` does.
    """
    names = [layer.name for layer in layers]
    chosen, skipped = (match_patterns("prune", names, p) for p in (patterns, skip))
    return [x for x in layers if x.name not in skipped and (not patterns or x.name in chosen)]
