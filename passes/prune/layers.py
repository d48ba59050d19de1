"""Which weights of a model pruning may touch."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import onnx_graphsurgeon as gs
from onnx import TensorProto
from onnx_graphsurgeon.ir.tensor import SparseValues

from optc.models.export import element_type
from optc.models.model import Model
from optc.passes.names import chosen_names, layer_name

WEIGHT_INPUTS = {"Conv": (1,), "ConvTranspose": (1,), "Gemm": (1, 0), "MatMul": (1, 0)}
"""Operator, and the inputs that may be its weight: the first of them that is a constant is."""

FLOATS = {np.dtype(np.float16), np.dtype(np.float32), np.dtype(np.float64)}
"""The types of weights that pruning changes."""

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
    if weight.dtype not in FLOATS:
        kind = TensorProto.DataType.Name(element_type(weight.dtype))
        return f"its weight is {kind}; FLOAT16, FLOAT and DOUBLE are pruned"
    if len(weight.shape) < 2 or 0 in weight.shape:
        return f"its weight has the shape {list(weight.shape)}: no matrix to prune"
    other = next((n for n in weight.outputs if n.op not in WEIGHT_INPUTS), None)
    if other is not None:
        return f"its weight is also read by {layer_name(other)} ({other.op})"
    return None


def choose_layers(layers: list[Layer], patterns: tuple[str, ...], skip: tuple[str, ...] = ()) -> list[Layer]:
    """The layers that match `patterns` (all, where there are none), without those that match `skip`.

    Raises `InputError` as `match_patterns` does.
    """
    names = chosen_names("prune", [layer.name for layer in layers], patterns, skip)
    return [x for x in layers if x.name in names]
