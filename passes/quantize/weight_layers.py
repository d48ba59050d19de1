"""Layers by their float weights: what weight-only and dynamic quantization choose from."""

from __future__ import annotations

from collections.abc import Callable, Collection
from dataclasses import dataclass, field

import numpy as np
import onnx_graphsurgeon as gs

from optc.models.errors import InputError
from optc.models.model import Model
from optc.passes.canonicalize.edit import standard
from optc.passes.names import layer_name
from optc.passes.quantize.units import Surroundings

Decline = Callable[[gs.Node, str], None]


@dataclass
class WeightLayer:
    """A float32 weight, second input of each of `nodes`, which all are the same operator.

    `channel`: the axis of the weight that counts output channels; `summed`: that of what is summed up.
    """

    weight: gs.Constant
    channel: int
    summed: int
    nodes: list[gs.Node] = field(default_factory=list)

    @property
    def name(self) -> str:
        """The first node's name, by which patterns choose."""
        return layer_name(self.nodes[0])


def find_weight_layers(model: Model, ops: Collection[str], decline: Decline) -> list[WeightLayer]:
    """The layers of the main graph, of the given operators, whose weights can be quantized, in graph order.

    `ops`: some of Conv, ConvTranspose, Gemm, MatMul. `decline` is told of each layer that cannot, and why.
    """
    around = Surroundings(model)
    here = {id(node) for node in model.view.nodes}
    found: dict[int, WeightLayer] = {}
    for node in model.view.nodes:
        if node.op not in ops or not standard(node):
            continue
        reason = _reason(node, around, here)
        if reason:
            decline(node, reason)
            continue
        weight = node.inputs[1]
        layer = found.setdefault(id(weight), WeightLayer(weight, *_axes(node, len(weight.shape))))
        layer.nodes.append(node)
    return list(found.values())


def quantized_names(model: Model, ops: Collection[str]) -> list[str]:
    """The names of layers whose weights stand behind a DequantizeLinear: patterns may name them, too."""
    layers = (n for n in model.view.nodes if n.op in ops and standard(n) and len(n.inputs) > 1)
    return [layer_name(n) for n in layers if any(p.op == "DequantizeLinear" for p in n.inputs[1].inputs)]


def _reason(node: gs.Node, around: Surroundings, here: Collection[int]) -> str | None:
    """Why the weight of `node` stays as it is, or None."""
    left, weight = node.inputs[:2]
    if node.op in ("MatMul", "Gemm") and not isinstance(weight, gs.Constant) and around.varies(weight):
        return "both its operands are computed" if around.varies(left) else "its left operand is a constant"
    reason = around.weight_reason(weight)
    if reason:
        return reason
    if len(weight.shape) < 2 or 0 in weight.shape:
        return "its weight is a vector, or empty"
    for reader in weight.outputs:
        alike = (reader.op, reader.attrs.get("transB", 0)) == (node.op, node.attrs.get("transB", 0))
        as_weight = [i for i, t in enumerate(reader.inputs) if t is weight] == [1]
        if not (alike and as_weight and standard(reader) and id(reader) in here):
            return f"its weight is also read by {layer_name(reader)} ({reader.op})"
    return "its weight is also an output of the model" if id(weight) in around.ends else None


def _axes(node: gs.Node, rank: int) -> tuple[int, int]:
    """The axes of output channels and of what is summed; of a grouped ConvTranspose, of each group alike."""
    if node.op == "Conv" or (node.op == "Gemm" and node.attrs.get("transB", 0)):
        return 0, 1
    return (1, 0) if node.op == "ConvTranspose" else (rank - 1, rank - 2)


def check_finite(constant: gs.Constant, node: gs.Node) -> None:
    """Raise `InputError`, naming the constant, where it holds NaN or infinity."""
    if not np.isfinite(constant.values).all():
        raise InputError(f"constant '{constant.name}' holds NaN or infinity", layer_name(node))
