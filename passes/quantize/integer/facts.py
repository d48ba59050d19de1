"""What recognizing integer units needs to know of the graph around them: constants, readers, codes."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import onnx_graphsurgeon as gs
from numpy.typing import NDArray

from optc.models.model import Model
from optc.passes.quantize.integer.ops import Clamped
from optc.passes.quantize.reference import Rounding, quantize
from optc.passes.quantize.scales import LARGEST, SMALLEST, Code

Array = NDArray[Any]

Bounds = tuple[Array | None, Array | None]
"""The lower and upper bound of a clamp."""

_FLOAT32 = 1
_EIGHT_BITS = (np.dtype(np.int8), np.dtype(np.uint8))


@dataclass(frozen=True, eq=False)
class Scales:
    """The constants of a Q or DQ: float32 `scale`, `zero` of the codes' dtype; `axis` if one a channel."""

    scale: Array
    zero: Array
    axis: int


@dataclass(frozen=True, eq=False)
class Operand:
    """An activation that stands as codes: the tensor of the codes, their code, and the DQ that is read."""

    codes: gs.Tensor
    code: Code
    node: gs.Node


@dataclass(frozen=True, eq=False)
class Tail:
    """What follows a unit up to its Q: the nodes, the Q's output, and the code with its clamps."""

    nodes: list[gs.Node]
    output: gs.Tensor
    target: Clamped


class Facts:
    """A read-only look at a model's graph."""

    def __init__(self, model: Model, rounding: Rounding) -> None:
        self.rounding = rounding
        self.nodes: list[gs.Node] = list(model.view.nodes)
        self.ends = frozenset(id(t) for t in model.view.outputs)
        self._overridable = frozenset(model.overridable)
        self._inside = frozenset(id(n) for n in self.nodes)

    def constant(self, tensor: gs.Tensor) -> Array | None:
        """The values of `tensor` where it is a constant that no caller can override."""
        if isinstance(tensor, gs.Constant):
            return None if tensor.name in self._overridable else np.asarray(tensor.values)
        producer = tensor.inputs[0] if tensor.inputs else None
        if producer is not None and producer.op == "Constant":
            value = producer.attrs.get("value")
            return np.asarray(value.values) if isinstance(value, gs.Constant) else None
        return None

    def only_reader(self, tensor: gs.Tensor) -> gs.Node | None:
        """The one node of the main graph that reads `tensor`, once, if nothing else does."""
        readers = list(tensor.outputs)
        if len(readers) != 1 or id(tensor) in self.ends or id(readers[0]) not in self._inside:
            return None
        return readers[0] if sum(t is tensor for t in readers[0].inputs) == 1 else None

    def scales(self, node: gs.Node) -> Scales | str:
        """The constants of a Q or DQ; a reason where they are none, or not of 8 (a bias: 32) bits."""
        scale = self.constant(node.inputs[1])
        if scale is None or scale.dtype != np.float32:
            return f"the scale of '{_key(node)}' is not a float32 constant"
        if not np.all((scale >= SMALLEST) & (scale <= LARGEST)):
            return f"the scale of '{_key(node)}' is not within 2^-63 and 2^63"
        asked = node.attrs.get("precision" if node.op == "QuantizeLinear" else "output_dtype", 0)
        if asked not in (0, _FLOAT32, np.float32):
            return f"'{_key(node)}' does not compute in float32"
        zero = self._zero(node, scale)
        if isinstance(zero, str):
            return zero
        return Scales(scale, zero, int(node.attrs.get("axis", 1)))

    def _zero(self, node: gs.Node, scale: Array) -> Array | str:
        if len(node.inputs) > 2 and not node.inputs[2].is_empty():
            zero = self.constant(node.inputs[2])
            return f"the zero point of '{_key(node)}' is not a constant" if zero is None else zero
        dtype = self._stored_dtype(node)
        if dtype is None:
            return f"the type of the codes of '{_key(node)}' is not known"
        return np.zeros(scale.shape, dtype)

    def _stored_dtype(self, node: gs.Node) -> Any:
        """The type of the codes of a Q or DQ that has no zero point; None where it is not known."""
        if node.op == "QuantizeLinear":
            return node.outputs[0].dtype if node.attrs.get("output_dtype", 0) else np.dtype(np.uint8)
        source = node.inputs[0]
        stored = self.constant(source)
        if stored is not None or source.dtype is not None:
            return source.dtype if stored is None else stored.dtype
        maker = source.inputs[0] if source.inputs else None
        if maker is None or not is_quantizer(maker, "QuantizeLinear"):
            return None
        zero = self._zero(maker, np.zeros(1))
        return None if isinstance(zero, str) else zero.dtype

    def code(self, node: gs.Node) -> Code | str:
        """The code of an activation that a Q or DQ node tells; a reason where it has none."""
        found = self.scales(node)
        if isinstance(found, str):
            return found
        if found.scale.size != 1 or node.attrs.get("block_size", 0):
            return f"the codes of '{_key(node)}' have more than one scale"
        if found.zero.dtype not in _EIGHT_BITS:
            return f"its codes are {found.zero.dtype}, not int8 or uint8"
        return Code(np.float32(found.scale.reshape(())), int(found.zero.reshape(())), found.zero.dtype)

    def operand(self, tensor: gs.Tensor) -> Operand | str:
        """The codes that `tensor`, an activation, stands for; a reason where it stands for none."""
        node = tensor.inputs[0] if tensor.inputs else None
        if node is None or not is_quantizer(node, "DequantizeLinear"):
            return "one of its operands is a constant" if self.is_fixed(tensor) else "what it reads is float"
        if self.is_fixed(node.inputs[0]):
            return "one of its operands is a constant"
        code = self.code(node)
        return code if isinstance(code, str) else Operand(node.inputs[0], code, node)

    def is_fixed(self, tensor: gs.Tensor) -> bool:
        """Whether `tensor` is a constant, or a constant through Q or DQ."""
        node = tensor.inputs[0] if tensor.inputs else None
        if node is not None and node.op in ("QuantizeLinear", "DequantizeLinear"):
            return self.is_fixed(node.inputs[0])
        return self.constant(tensor) is not None

    def tail(self, node: gs.Node, clamps: bool = True) -> Tail | str:
        """The Relus and Clips (with `clamps`) and the Q that alone read `node`'s result, or why none do.

        A Relu or Clip `node` clamps too.
        """
        nodes: list[gs.Node] = []
        bounds: list[Bounds] = []
        if node.op in ("Relu", "Clip"):
            own = self.bounds(node)
            if isinstance(own, str):
                return own
            bounds.append(own)
        tensor = node.outputs[0]
        reader = self.only_reader(tensor)
        while clamps and reader is not None and reader.op in ("Relu", "Clip"):
            found = self.bounds(reader)
            if isinstance(found, str) or reader.inputs[0] is not tensor:
                break
            bounds.append(found)
            nodes.append(reader)
            tensor = reader.outputs[0]
            reader = self.only_reader(tensor)
        if reader is None or not is_quantizer(reader, "QuantizeLinear") or reader.inputs[0] is not tensor:
            return "its result is not quantized, or something else reads it too"
        code = self.code(reader)
        if isinstance(code, str):
            return code
        return Tail([*nodes, reader], reader.outputs[0], self._clamped(code, bounds))

    def bounds(self, node: gs.Node) -> Bounds | str:
        """The constant bounds of a Relu or Clip; None where one is absent."""
        if node.op == "Relu":
            return np.zeros((), np.float32), None
        found: list[Array | None] = []
        for index, name in ((1, "min"), (2, "max")):
            given = len(node.inputs) > index and not node.inputs[index].is_empty()
            value = self.constant(node.inputs[index]) if given else node.attrs.get(name)
            if given and (value is None or value.dtype != np.float32):
                return "its bounds are computed at run time"
            found.append(None if value is None else np.asarray(value, np.float32).reshape(()))
        if any(value is not None and np.isnan(value) for value in found):
            return "a bound of it is NaN"
        return found[0], found[1]

    def _clamped(self, code: Code, bounds: list[Bounds]) -> Clamped:
        limits = np.array(code.limits)
        for low, high in bounds:
            if low is not None:
                limits = np.maximum(limits, int(quantize(low, code, self.rounding)))
            if high is not None:
                limits = np.minimum(limits, int(quantize(high, code, self.rounding)))
        return Clamped(code, int(limits[0]), int(limits[1]))


def is_quantizer(node: gs.Node, op: str) -> bool:
    """Whether `node` is ONNX's own `op`, a QuantizeLinear or DequantizeLinear."""
    return bool(node.op == op and node.domain in (None, "", "ai.onnx"))


def _key(node: gs.Node) -> str:
    return str(node.name or node.outputs[0].name)
