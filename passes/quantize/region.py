"""The region of a model that becomes integer: an analysis, which changes nothing."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass

import numpy as np
import onnx_graphsurgeon as gs

from optc.models.model import Model
from optc.passes.names import layer_name
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


def find_region(model: Model, accumulators: bool, kept: Mapping[str, str] | None = None) -> Region:
    """The integer region of `model`.

    Layers with weights (and products of two activations) are its seeds. Pooling, Add, Concat and moves of
    data join where that keeps integers together: they read what is integer, and something integer reads them,
    or all they read stands as codes anyway. With `accumulators`, a layer's result that only feeds an Add of
    the region is not coded. `kept`: units that stay float, by the name of their first node,
    each with the reason.
    """
    growth = _Growth(model, kept or {})
    growth.grow()
    units = [u for u in growth.units if u in growth.inside]
    coded = {id(t): t for u in units for t in (*u.operands, u.output) if growth.is_coded(t, accumulators)}
    return Region(units, list(coded.values()), list(growth.left()), {id(u.output): u for u in units})


class _Growth:
    """Grows the region from its seeds."""

    def __init__(self, model: Model, kept: Mapping[str, str]) -> None:
        around = Surroundings(model)
        self.inputs = {id(t) for t in model.view.inputs if t.dtype == np.float32}
        self.ends = around.ends
        self.units: list[Unit] = []
        self.reasons: list[tuple[gs.Node, str]] = []
        taken: set[int] = set()
        for node in model.view.nodes:
            if id(node) in taken or node.op in _QUANTIZERS or not computes_floats(node):
                continue
            found = recognize(node, around)
            if isinstance(found, Unit):
                found = kept.get(layer_name(node), found)
            if isinstance(found, Unit):
                self.units.append(found)
                taken.update(id(n) for n in found.nodes)
            else:
                self.reasons.append((node, found))
        self.producers = {id(u.output): u for u in self.units}
        self.heads = {id(u.head): u for u in self.units}
        self.inside = {u for u in self.units if u.seed}
        self.fed: set[Unit] = set()
        """Seeds, and units that read the result of one, directly or through such units."""
        self.entries: set[Unit] = set()
        """Units that read nothing but graph inputs, directly or through such units."""

    def grow(self) -> None:
        """Let units join until none does; sweeps go both ways, as a reason to join can come from either."""
        for unit in self.units:
            producers = [self.producers.get(id(t)) for t in unit.operands]
            if unit.seed or any(p in self.fed for p in producers):
                self.fed.add(unit)
            elif all(self._enters(t) for t in unit.operands):
                self.entries.add(unit)
        outside = [u for u in self.units if u not in self.inside]
        while True:
            before = len(self.inside)
            for unit in (*outside, *reversed(outside)):
                if unit not in self.inside and self._joins(unit):
                    self.inside.add(unit)
            if len(self.inside) == before:
                return

    def _enters(self, tensor: gs.Tensor) -> bool:
        return id(tensor) in self.inputs or self.producers.get(id(tensor)) in self.entries

    def _joins(self, unit: Unit) -> bool:
        """Whether `unit`, whose operands can be codes, has a reason to be integer."""
        if unit not in self.fed:
            return unit in self.entries and bool(self._readers(unit.output))
        if self._readers(unit.output):
            return True
        if unit.constants:  # between floats they are exact
            return False
        if not all(self._enters(t) or self.producers.get(id(t)) in self.fed for t in unit.operands):
            return False
        made = [t for t in unit.operands if self._inner(t)]
        return id(unit.output) in self.ends or any(self.is_coded(t) for t in made)

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

    def _feeds_sum(self, unit: Unit) -> bool:
        """Whether the result of a layer, with no activation on it, is read by one Add of the region only."""
        if unit.weight is None or unit.head is not unit.nodes[-1] or id(unit.output) in self.ends:
            return False
        readers = self._readers(unit.output)
        if len(list(unit.output.outputs)) != 1 or len(readers) != 1:
            return False
        return readers[0].head.op == "Add" and not readers[0].constants

    def left(self) -> Iterator[tuple[gs.Node, str]]:
        """The nodes that stay float, and why."""
        yield from self.reasons
        for unit in self.units:
            if unit not in self.inside:
                reason = self._reason(unit)
                yield from ((node, reason) for node in unit.nodes)

    def _reason(self, unit: Unit) -> str:
        around = [n for t in (*unit.operands, unit.output) for n in (*t.inputs, *t.outputs)]
        if any(n.op in _QUANTIZERS for n in around):
            return "it is quantized already"
        if unit in self.fed:
            return "no integer node reads it"
        return "what it reads is float"


def computes_floats(node: gs.Node) -> bool:
    """Whether `node` writes floats, as far as its types are known; constants do not count."""
    if node.op in ("Constant", "Shape", "Size", "ConstantOfShape", "Range"):
        return False
    dtype = node.outputs[0].dtype if node.outputs else None
    if dtype is None or isinstance(dtype, int):
        return True
    return bool(np.issubdtype(dtype, np.floating))
