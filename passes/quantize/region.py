"""The region of a model that becomes integer: an analysis, which changes nothing."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import onnx_graphsurgeon as gs

from optc.models.model import Model
from optc.passes.quantize.operators import recognize
from optc.passes.quantize.units import Surroundings, Unit

_QUANTIZERS = {"QuantizeLinear", "DequantizeLinear", "DynamicQuantizeLinear"}


@dataclass
class Region:
    """What becomes integer.

    `units`: in graph order. `coded`: the values that get a Q and a DQ, in order of their first use.
    `left`: nodes that stay float, and why.
    """

    units: list[Unit]
    coded: list[gs.Tensor]
    left: list[tuple[gs.Node, str]]
    producers: dict[int, Unit]
    """The unit that writes a value, by the value's id()."""


def find_region(model: Model, accumulators: bool) -> Region:
    """The integer region of `model`.

    Layers with weights (and products of two activations) are its seeds. Pooling, Add, Concat and moves of
    data join where they keep integers together: all they read is integer and something that is integer reads
    them or produced what they read; or, with a float operand among integer ones, where an integer unit reads
    them. With `accumulators`, a layer's result that only feeds an Add of the region is not coded.
    """
    growth = _Growth(model)
    growth.grow()
    units = [u for u in growth.units if u in growth.inside]
    coded = {id(t): t for u in units for t in (*u.operands, u.output) if growth.is_coded(t, accumulators)}
    return Region(units, list(coded.values()), list(growth.left()), {id(u.output): u for u in units})


class _Growth:
    """Grows the region from its seeds to a fixed point."""

    def __init__(self, model: Model) -> None:
        around = Surroundings(model)
        self.inputs = {id(t) for t in model.view.inputs if t.dtype == np.float32}
        self.ends = around.ends
        self.units: list[Unit] = []
        self.reasons: list[tuple[gs.Node, str]] = []
        taken: set[int] = set()
        for node in model.view.nodes:
            if id(node) in taken or node.op in _QUANTIZERS or not _computes_floats(node):
                continue
            found = recognize(node, around)
            if isinstance(found, Unit):
                self.units.append(found)
                taken.update(id(n) for n in found.nodes)
            else:
                self.reasons.append((node, found))
        self.producers = {id(u.output): u for u in self.units}
        self.heads = {id(u.head): u for u in self.units}
        self.inside = {u for u in self.units if u.seed}

    def grow(self) -> None:
        """Let units join until none does; sweeps go both ways, as a reason to join can come from either."""
        outside = [u for u in self.units if u not in self.inside]
        while True:
            before = len(self.inside)
            for unit in (*outside, *reversed(outside)):
                if unit not in self.inside and self._joins(unit):
                    self.inside.add(unit)
            if len(self.inside) == before:
                return

    def _inner(self, tensor: gs.Tensor) -> Unit | None:
        producer = self.producers.get(id(tensor))
        return producer if producer in self.inside else None

    def _readers(self, tensor: gs.Tensor) -> list[Unit]:
        """The units of the region that read `tensor` as an operand."""
        units = [self.heads.get(id(n)) for n in tensor.outputs]
        return [u for u in units if u in self.inside and any(t is tensor for t in u.operands)]

    def is_coded(self, tensor: gs.Tensor, accumulators: bool = False) -> bool:
        """Whether a value that a unit of the region reads or writes stands as codes."""
        unit = self._inner(tensor)
        if unit is None:
            return True
        if accumulators and self._feeds_sum(unit):
            return False
        return not unit.accumulates or bool(self._readers(tensor)) or id(tensor) in self.ends

    def _joins(self, unit: Unit) -> bool:
        inner = [t for t in unit.operands if self._inner(t)]
        if all(self._inner(t) or id(t) in self.inputs for t in unit.operands):
            ends = bool(inner) and id(unit.output) in self.ends
            if ends or any(self.is_coded(t) for t in inner):
                return True
        elif not inner:
            return False
        return bool(self._readers(unit.output))

    def _feeds_sum(self, unit: Unit) -> bool:
        """Whether the result of a layer, with no activation on it, is read by one Add of the region only."""
        if unit.weight is None or unit.head is not unit.nodes[-1] or id(unit.output) in self.ends:
            return False
        readers = self._readers(unit.output)
        return len(list(unit.output.outputs)) == 1 and len(readers) == 1 and readers[0].head.op == "Add"

    def left(self) -> Iterator[tuple[gs.Node, str]]:
        """The nodes that stay float, and why."""
        yield from self.reasons
        for unit in self.units:
            if unit not in self.inside:
                around = [n for t in (*unit.operands, unit.output) for n in (*t.inputs, *t.outputs)]
                quantized = any(n.op in _QUANTIZERS for n in around)
                reason = "it is quantized already" if quantized else "no integer node is next to it"
                yield from ((node, reason) for node in unit.nodes)


def _computes_floats(node: gs.Node) -> bool:
    """Whether `node` writes floats, as far as its types are known; constants do not count."""
    if node.op in ("Constant", "Shape", "Size", "ConstantOfShape", "Range"):
        return False
    dtype = node.outputs[0].dtype if node.outputs else None
    if dtype is None or isinstance(dtype, int):
        return True
    return bool(np.issubdtype(dtype, np.floating))
