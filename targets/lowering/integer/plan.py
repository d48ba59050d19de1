"""Which operations of a model's integer program TVM gets as integers, and which nodes they stand for."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass

from onnx import TensorProto

from optc.models.model import Model
from optc.passes.quantize.integer.ops import (
    AveragePool,
    IntegerProgram,
    Layer,
    MaxPool,
    Move,
    Op,
    Quantize,
    Sum,
    Window,
)
from optc.passes.quantize.integer.recognize import integer_program
from optc.passes.quantize.reference import Rounding
from optc.targets.lowering.graph import Graph, uses
from optc.targets.lowering.islands import why_not


@dataclass(frozen=True)
class IntegerPlan:
    """The integer operations of a graph that is lowered.

    `ops`: by the node (its index) whose place each takes; `replaced`: the nodes that need not be imported,
    since nothing but integer operations reads them; `covered`: all nodes whose work the operations do;
    `floats`: why a node computes in float, although the model is quantized.
    """

    ops: Mapping[int, Op]
    replaced: frozenset[int]
    covered: frozenset[int]
    floats: Mapping[int, str]
    rounding: Rounding


class Integers:
    """A graph's integer program, matched to its nodes."""

    def __init__(self, graph: Graph, refused: Mapping[int, str]) -> None:
        """Recognize the integers of `graph`; `refused`: nodes that TVM does not get, with the reason."""
        self.graph = graph
        self.program: IntegerProgram = integer_program(Model(graph.proto, graph.folder))
        self.index = {o: i for i, node in enumerate(graph.nodes) for o in node.output if o}
        self.refused = {op.output: reason for op in self.program.ops if (reason := unfit(graph, op))}
        for op in self.program.ops:
            if isinstance(op, Move):  # imported as a node of codes, so the node's refusals are its own
                heads = (i for i in map(self.index.__getitem__, op.nodes) if graph.nodes[i].op_type == op.op)
                reason = next((refused[i] for i in heads if i in refused), None)
                if reason is not None:
                    self.refused.setdefault(op.output, reason)

    def refuse(self, reasons: Mapping[int, str]) -> None:
        """Leave out the operations in the place of these nodes."""
        self.refused |= {
            op.output: reasons[i] for op in self.program.ops if (i := self.index[op.output]) in reasons
        }

    def plan(self, islands: Collection[int]) -> IntegerPlan:
        """The operations that stay when the nodes `islands` run in ONNX Runtime."""
        reasons = dict(self.refused)
        for op in self.program.ops:
            if any(self.index[n] in islands for n in op.nodes):
                reasons.setdefault(op.output, "a node of it runs in ONNX Runtime")
        self._spread(reasons)
        active = {self.index[op.output]: op for op in self.program.ops if op.output not in reasons}
        covered = frozenset(self.index[n] for op in active.values() for n in op.nodes)
        return IntegerPlan(
            active, self._replaced(active, covered), covered, self._floats(reasons), self.program.rounding
        )

    def _spread(self, reasons: dict[str, str]) -> None:
        """An accumulator is of use only where both who makes it and who adds it are integer."""
        accumulators = self.program.accumulators()
        sums = [op for op in self.program.ops if isinstance(op, Sum)]
        for op in sums:
            if any(n in reasons for n in op.inputs if n in accumulators):
                reasons.setdefault(op.output, "an accumulator that it adds is not integer")
        for op in sums:
            for name in op.inputs:
                if op.output in reasons and name in accumulators:
                    reasons.setdefault(name, "the sum that it belongs to is not integer")

    def _replaced(self, active: Mapping[int, Op], covered: frozenset[int]) -> frozenset[int]:
        """Nodes of active operations that no other node needs."""
        nodes = self.graph.nodes
        given = {op.output for op in active.values()}
        needed = {*self.graph.outputs}
        needed.update(n for op in active.values() for n in op.inputs)
        needed.update(n for op in active.values() if isinstance(op, Move) for n in op.parameters)
        replaced: set[int] = set()
        for index in range(len(nodes) - 1, -1, -1):
            if index in covered and not any(o in needed and o not in given for o in nodes[index].output):
                replaced.add(index)
            else:
                needed.update(uses(nodes[index]))
        return frozenset(replaced)

    def _floats(self, reasons: Mapping[str, str]) -> dict[int, str]:
        if not self.program.ops:
            return {}
        found = {self.index[left.node]: left.reason for left in self.program.left if left.node in self.index}
        for op in self.program.ops:
            if op.output in reasons:
                found.update({self.index[n]: reasons[op.output] for n in op.nodes})
        return found


def unfit(graph: Graph, op: Op) -> str | None:
    """Why TVM does not get `op` as integers, or None."""
    for name in op.inputs:
        if name not in graph.types:
            return f"'{name}' {why_not(graph, name)}"
    known = (graph.types[name].dims for name in (*op.inputs, op.output) if name in graph.types)
    if any(0 in dims for dims in known):
        return "TVM cannot store a tensor without elements"
    if isinstance(op, Quantize) and graph.types[op.inputs[0]].element != TensorProto.FLOAT:
        return f"'{op.inputs[0]}' is not float32"
    if isinstance(op, Layer | MaxPool | AveragePool):
        return _unfit_window(graph, op)
    return None


def _unfit_window(graph: Graph, op: Layer | MaxPool | AveragePool) -> str | None:
    window: Window | None = op.window
    fixed = all(isinstance(d, int) for d in graph.types[op.inputs[0]].dims[2:])
    by_size = window is not None and (window.auto_pad != "NOTSET" or window.ceil_mode)
    if not fixed and (by_size or isinstance(op, AveragePool)):
        return "its padding or count depends on free dimensions (bind those with --shape)"
    return None
