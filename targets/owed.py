"""What each output of a quantized artifact owes to the integer reference (docs/semantics.md)."""

from __future__ import annotations

from collections.abc import Collection
from enum import IntEnum

from optc.models.model import Model
from optc.passes.base import Contract, Exact, Lossy
from optc.passes.quantize.integer.ops import IntegerProgram, Move, Op
from optc.passes.quantize.integer.recognize import integer_program
from optc.targets.artifact import Artifact
from optc.targets.lowering.graph import Graph, uses

ROUNDS = frozenset({"QuantizeLinear", "DynamicQuantizeLinear", "QLinearConv", "QLinearMatMul"})
"""Operators that round to integers: a float that is a little off may become another code."""


class Distance(IntEnum):
    """How far a value may lie from the reference's."""

    EQUAL = 0
    CLOSE = 1
    """A float node of another implementation has touched it."""
    APART = 2
    """It was rounded to codes after that."""


def distances(model: Model, integer: Collection[int]) -> dict[str, Distance]:
    """How far each output of `model` may lie from the reference's; `integer`: nodes lowered to integers.

    Nodes are counted as in `optc.targets.lowering.graph.Graph`.
    """
    graph = Graph(model)
    program = integer_program(Model(graph.proto, graph.folder))
    ops = _lowered(graph, program, integer)
    found: dict[str, Distance] = {}
    for index, node in enumerate(graph.nodes):
        worst = max((found.get(n, Distance.EQUAL) for n in uses(node)), default=Distance.EQUAL)
        if index not in integer:
            worst = max(worst, Distance.APART if node.op_type in ROUNDS else Distance.CLOSE)
        found.update(dict.fromkeys(node.output, worst))
        for op in (ops[o] for o in node.output if o in ops):
            exact = all(found.get(n, Distance.EQUAL) == Distance.EQUAL for n in _reads(op))
            found[op.output] = Distance.EQUAL if exact else Distance.APART
    return {name: found.get(name, Distance.EQUAL) for name in graph.outputs}


def _lowered(graph: Graph, program: IntegerProgram, integer: Collection[int]) -> dict[str, Op]:
    done = {o for i in integer for o in graph.nodes[i].output}
    return {op.output: op for op in program.ops if done.issuperset(op.nodes)}


def _reads(op: Op) -> tuple[str, ...]:
    return (*op.inputs, *op.parameters) if isinstance(op, Move) else op.inputs


def integer_nodes(artifact: Artifact) -> list[int]:
    """The nodes of the artifact's model that its placement reports as integer, as `Graph` counts them."""
    return [i for i, placed in enumerate(artifact.placement) if placed.integer]


def contracts(artifact: Artifact, close: Exact, apart: Lossy) -> dict[str, Contract]:
    """What each output of the artifact owes: bit for bit the same, `close`, or `apart`."""
    kinds: dict[Distance, Contract] = {
        Distance.EQUAL: Exact({}),
        Distance.CLOSE: close,
        Distance.APART: apart,
    }
    found = distances(artifact.model, integer_nodes(artifact))
    return {name: kinds[distance] for name, distance in found.items()}
