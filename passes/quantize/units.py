"""Units: the nodes that the integer form computes in one go."""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np
import onnx_graphsurgeon as gs
from onnx_graphsurgeon.ir.tensor import SparseValues

from optc.models.model import Model


@dataclass(eq=False)
class Unit:
    """A node, followed by its bias Add and its Relu or Clip where it has them.

    `operands`: the activations it reads, as codes. `weight`, `bias`, `axis`: of a layer with weights; `axis`
    counts the weight's channels, and the bias has one entry for each, or one for all. `seed`: it is worth
    integers for its own sake; other units join the region of one. `shares`: its output has its operands'
    codes. `accumulates`: it can leave its result as it stands in the accumulator, for a float reader.
    `constants`: of Add, Max, Min channel by channel, by node; they are written in the operand's code.
    """

    nodes: list[gs.Node]
    operands: list[gs.Tensor]
    weight: gs.Constant | None = None
    bias: gs.Constant | None = None
    axis: int = 0
    seed: bool = False
    shares: bool = False
    accumulates: bool = False
    constants: list[tuple[gs.Node, gs.Constant]] = field(default_factory=list)

    @property
    def head(self) -> gs.Node:
        """The first node."""
        return self.nodes[0]

    @property
    def output(self) -> gs.Tensor:
        """What the last node writes."""
        return self.nodes[-1].outputs[0]


class Surroundings:
    """What recognizing a unit needs to know of the model around it."""

    def __init__(self, model: Model) -> None:
        self.overridable = frozenset(model.overridable)
        self.ends = frozenset(id(t) for t in model.view.outputs)
        self._nodes = frozenset(id(n) for n in model.view.nodes)
        self._varying = {id(t) for t in model.view.inputs}
        for node in model.view.nodes:
            bodies = any(isinstance(value, gs.Graph) for value in node.attrs.values())
            if bodies or any(id(t) in self._varying for t in node.inputs):
                self._varying.update(id(t) for t in node.outputs)

    def varies(self, tensor: gs.Tensor) -> bool:
        """Whether `tensor` is computed from the model's inputs; the others are constants, folded or not."""
        return id(tensor) in self._varying

    def only_reader(self, tensor: gs.Tensor) -> gs.Node | None:
        """The one node of the main graph that reads `tensor`, if nothing else does."""
        readers = list(tensor.outputs)
        if len(readers) != 1 or id(tensor) in self.ends or id(readers[0]) not in self._nodes:
            return None
        return readers[0]

    def fixed(self, tensor: gs.Tensor) -> bool:
        """Whether `tensor` is a dense float32 constant that no caller can override."""
        if not isinstance(tensor, gs.Constant) or tensor.name in self.overridable:
            return False
        return bool(tensor.dtype == np.float32) and not isinstance(tensor._values, SparseValues)

    def clamps(self, node: gs.Node) -> bool:
        """Whether `node` is a Relu, or a Clip between constants."""
        return node.op == "Relu" or all(t.is_empty() or self.fixed(t) for t in node.inputs[1:])

    def weight_reason(self, tensor: gs.Tensor) -> str | None:
        """Why `tensor` cannot be a weight in integers, or None."""
        if any(p.op == "DequantizeLinear" for p in tensor.inputs):
            return "it is quantized already"
        if not isinstance(tensor, gs.Constant):
            return "its weight is computed at run time (run canonicalize first if it is a constant)"
        if tensor.name in self.overridable:
            return "its weight is also a graph input, which a caller may override"
        if isinstance(tensor._values, SparseValues):
            return "its weight is stored sparse"
        return None if tensor.dtype == np.float32 else "its weight is not float32"
