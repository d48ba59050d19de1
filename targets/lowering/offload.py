"""Regions: integer operations that an accelerator takes, grouped so that each is one call."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Protocol

from optc.passes.quantize.integer.ops import Layer, Move, Op, Sum, ToAccumulator
from optc.passes.quantize.reference import Rounding
from optc.targets.lowering.graph import Graph, uses
from optc.targets.lowering.integer.plan import IntegerPlan
from optc.targets.lowering.islands import Island


@dataclass(frozen=True, eq=False)
class Region:
    """Operations that one call of an accelerator does, in the order of the graph.

    `name`: of the packed function; `inputs`, `outputs`: the values that cross its border; `nodes`: those that
    write their outputs; `batched`: the first dimension of every value is free, and samples go one by one.
    """

    name: str
    ops: tuple[Op, ...]
    nodes: tuple[int, ...]
    inputs: tuple[str, ...]
    outputs: tuple[str, ...]
    batched: bool


Shapes = Mapping[str, tuple[int, ...]]


class Offloader(Protocol):
    """An accelerator beside the host."""

    def refuse(self, ops: Sequence[Op], shapes: Shapes, rounding: Rounding) -> Mapping[str, str]:
        """The operations that it does not take, by their output, with the reason.

        `shapes`: of the values that have one without free dimensions; a free first one counts as 1.
        """

    def compile(self, region: Region) -> None:
        """Make and keep what the packed function `region.name` runs."""


@dataclass(frozen=True)
class Offload:
    """The regions of a plan, and why other integer operations are not in one (by their output)."""

    regions: tuple[Region, ...] = ()
    reasons: Mapping[str, str] = field(default_factory=dict)


def offload(graph: Graph, islands: Sequence[Island], plan: IntegerPlan, to: Offloader) -> Offload:
    """What `to` takes of the operations of `plan`, in as few regions as may be, none in a cycle."""
    ops = [plan.ops[i] for i in sorted(plan.ops)]
    shapes, symbols = _shapes(graph)
    reasons = dict(to.refuse(ops, shapes, plan.rounding))
    groups = _groups(graph, islands, plan, [o for o in ops if o.output not in reasons], symbols)
    idle = [group for group in groups if all(isinstance(op, Move) for op in group)]
    reasons.update({op.output: "nothing beside it is there to compute" for group in idle for op in group})
    regions = tuple(_region(graph, plan, group, symbols) for group in groups if group not in idle)
    return Offload(regions, reasons)


def _shapes(graph: Graph) -> tuple[dict[str, tuple[int, ...]], dict[str, str]]:
    """Shapes with a free first dimension taken as 1, and the names of those dimensions."""
    shapes: dict[str, tuple[int, ...]] = {}
    symbols: dict[str, str] = {}
    for name, found in graph.types.items():
        first, rest = found.dims[:1], found.dims[1:]
        fixed = tuple(d for d in rest if isinstance(d, int))
        if len(fixed) < len(rest) or first == (None,):
            continue
        if first and isinstance(first[0], str):
            symbols[name] = first[0]
            shapes[name] = (1, *fixed)
        else:
            shapes[name] = tuple(d for d in found.dims if isinstance(d, int))
    return shapes, symbols


@dataclass
class _Item:
    """Something that is placed as a whole: what it reads and writes; the operations it is made of, if any."""

    reads: tuple[str, ...]
    writes: tuple[str, ...]
    ops: tuple[Op, ...] = ()


def _items(graph: Graph, islands: Sequence[Island], plan: IntegerPlan, taken: Sequence[Op]) -> list[_Item]:
    items = [_Item(i.inputs, i.outputs) for i in islands]
    inside = {i for island in islands for i in island.nodes}
    mine = {op.output for op in taken}
    for index, node in enumerate(graph.nodes):
        if index not in inside and index not in plan.replaced:
            items.append(_Item(tuple(uses(node)), tuple(o for o in node.output if o)))
    for op in plan.ops.values():
        if op.output not in mine:
            items.append(_Item((*op.inputs, *(op.parameters if isinstance(op, Move) else ())), (op.output,)))
    layers = {o.output: o for o in taken if isinstance(o, Layer) and isinstance(o.ending, ToAccumulator)}
    for op in taken:
        if op.output in layers:
            continue
        parts = [layers[n] for n in op.inputs if n in layers] if isinstance(op, Sum) else []
        read = [n for o in (*parts, op) for n in o.inputs if n not in layers]
        items.append(_Item(tuple(read), (op.output,), (*parts, op)))
    return items


def _groups(
    graph: Graph,
    islands: Sequence[Island],
    plan: IntegerPlan,
    taken: Sequence[Op],
    symbols: Mapping[str, str],
) -> list[tuple[Op, ...]]:
    """Operations that can be one region: connected, with no path that leaves and comes back.

    As in `islands`: an operation's depth counts how often a path to it leaves the accelerator.
    """
    items = _items(graph, islands, plan, taken)
    writer = {name: n for n, item in enumerate(items) for name in item.writes}
    depth: dict[int, int] = {}
    root: dict[int, int] = {}

    def find(number: int) -> int:
        while root[number] != number:
            number = root[number]
        return number

    for number in _sorted(items, writer):
        item = items[number]
        before = sorted({writer[n] for n in item.reads if n in writer} - {number})
        here = bool(item.ops)
        depth[number] = max((depth[p] + (bool(items[p].ops) and not here) for p in before), default=0)
        if not here:
            continue
        root[number] = number
        for p in before:
            same = symbols.get(items[p].writes[0]) == symbols.get(item.writes[0])
            if items[p].ops and depth[p] == depth[number] and same:
                root[find(p)] = find(number)
    members: dict[int, list[Op]] = {}
    for number in sorted(root):
        members.setdefault(find(number), []).extend(items[number].ops)
    order = {op.output: n for n, op in enumerate(plan.ops[i] for i in sorted(plan.ops))}
    return [tuple(sorted(ops, key=lambda o: order[o.output])) for ops in members.values()]


def _sorted(items: Sequence[_Item], writer: Mapping[str, int]) -> list[int]:
    """The items, each after those that write what it reads."""
    done: dict[int, bool] = {}
    order: list[int] = []
    for start in range(len(items)):
        stack = [start]
        while stack:
            number = stack[-1]
            if number in done:
                stack.pop()
                continue
            missing = {writer[n] for n in items[number].reads if n in writer} - done.keys() - {number}
            if missing:
                stack.extend(sorted(missing))
            else:
                done[number] = True
                order.append(number)
                stack.pop()
    return order


def _region(graph: Graph, plan: IntegerPlan, ops: tuple[Op, ...], symbols: Mapping[str, str]) -> Region:
    index = {o: i for i, node in enumerate(graph.nodes) for o in node.output if o}
    made = {op.output for op in ops}
    nodes = sorted(index[op.output] for op in ops)
    needed = {*graph.outputs}
    for i, node in enumerate(graph.nodes):
        if i not in plan.replaced:
            needed.update(uses(node))
    for op in plan.ops.values():
        if op.output not in made:
            needed.update(op.inputs)
            needed.update(op.parameters if isinstance(op, Move) else ())
    inputs = tuple(dict.fromkeys(n for op in ops for n in op.inputs if n not in made))
    outputs = tuple(op.output for op in ops if op.output in needed)
    digest = hashlib.sha256(graph.proto.SerializeToString(deterministic=True))
    digest.update("\n".join((*inputs, *outputs)).encode())
    name = f"optc.region.{digest.hexdigest()[:16]}"
    return Region(name, ops, tuple(nodes), inputs, outputs, any(o in symbols for o in outputs))
