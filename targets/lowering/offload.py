"""Regions: integer operations that an accelerator takes, grouped so that each is one call."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Protocol

from optc.passes.quantize.integer.ops import Layer, Move, Op, Product, Sum, ToAccumulator
from optc.passes.quantize.reference import Rounding
from optc.targets.lowering.graph import Graph, uses
from optc.targets.lowering.integer.plan import IntegerPlan
from optc.targets.lowering.islands import Island


@dataclass(frozen=True, eq=False)
class Region:
    """Operations that one call of an accelerator does, in the order of the graph.

    `name`: of the packed function; `inputs`, `outputs`: the values that cross its border; `nodes`: those that
    write their outputs; `batched`: the first dimension of every value is free, and samples go one by one;
    `accumulators`: outputs that are the int32 sums of an operation, whose ending is the host's.
    """

    name: str
    ops: tuple[Op, ...]
    nodes: tuple[int, ...]
    inputs: tuple[str, ...]
    outputs: tuple[str, ...]
    batched: bool
    accumulators: Mapping[str, Layer | Product] = field(default_factory=dict)


Shapes = Mapping[str, tuple[int, ...]]


@dataclass(frozen=True)
class Taken:
    """What an accelerator does not take, by the output, with the reason; the rest it takes.

    `accumulators`: outputs of operations whose int32 sums it gives, and why the host ends them; `hosted`:
    values that have to come from the host, whoever makes them.
    """

    refused: Mapping[str, str]
    accumulators: Mapping[str, str] = field(default_factory=dict)
    hosted: frozenset[str] = frozenset()

    @property
    def crossing(self) -> frozenset[str]:
        """Values that the host has, on their way from any operation to any other."""
        return self.hosted.union(self.accumulators)


class Offloader(Protocol):
    """An accelerator beside the host."""

    def take(self, ops: Sequence[Op], shapes: Shapes, rounding: Rounding) -> Taken:
        """What it takes of `ops`.

        `shapes`: of the values that have one without free dimensions; a free first one counts as 1.
        """

    def compile(self, region: Region) -> None:
        """Make and keep what the packed function `region.name` runs."""


@dataclass(frozen=True)
class Offload:
    """The regions of a plan, and why other integer operations are not in one (by their output).

    `ended`: why the host ends what is in one.
    """

    regions: tuple[Region, ...] = ()
    reasons: Mapping[str, str] = field(default_factory=dict)
    ended: Mapping[str, str] = field(default_factory=dict)


def offload(graph: Graph, islands: Sequence[Island], plan: IntegerPlan, to: Offloader) -> Offload:
    """What `to` takes of the operations of `plan`, in as few regions as may be, none in a cycle."""
    ops = [plan.ops[i] for i in sorted(plan.ops)]
    shapes, symbols = _shapes(graph)
    taken = to.take(ops, shapes, plan.rounding)
    reasons = dict(taken.refused)
    mine = [o for o in ops if o.output not in reasons]
    groups = _groups(_items(graph, islands, plan, mine, taken), mine, symbols, taken.crossing)
    idle = [group for group in groups if all(isinstance(op, Move) for op in group)]
    reasons.update({op.output: "nothing beside it is there to compute" for group in idle for op in group})
    regions = tuple(_region(graph, plan, group, symbols, taken) for group in groups if group not in idle)
    return Offload(regions, reasons, taken.accumulators)


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


def _items(
    graph: Graph, islands: Sequence[Island], plan: IntegerPlan, mine: Sequence[Op], taken: Taken
) -> list[_Item]:
    items = [_Item(i.inputs, i.outputs) for i in islands]
    inside = {i for island in islands for i in island.nodes}
    outputs = {op.output for op in mine}
    for index, node in enumerate(graph.nodes):
        if index not in inside and index not in plan.replaced:
            items.append(_Item(tuple(uses(node)), tuple(o for o in node.output if o)))
    for op in plan.ops.values():
        if op.output not in outputs:
            items.append(_Item((*op.inputs, *(op.parameters if isinstance(op, Move) else ())), (op.output,)))
    inner = (o for o in mine if isinstance(o, Layer) and isinstance(o.ending, ToAccumulator))
    layers = {o.output: o for o in inner if o.output not in taken.accumulators}
    for op in mine:
        if op.output in layers:
            continue
        parts = [layers[n] for n in op.inputs if n in layers] if isinstance(op, Sum) else []
        read = [n for o in (*parts, op) for n in o.inputs if n not in layers]
        items.append(_Item(tuple(read), (op.output,), (*parts, op)))
    return items


def _groups(
    items: Sequence[_Item], mine: Sequence[Op], symbols: Mapping[str, str], crossing: frozenset[str]
) -> list[tuple[Op, ...]]:
    """Operations that can be one region: connected, with no path that leaves and comes back.

    As in `islands`: an operation's depth counts how often a path to it leaves the accelerator.
    """
    writer = {name: n for n, item in enumerate(items) for name in item.writes}
    depth: dict[int, int] = {}
    root: dict[int, int] = {}

    def find(number: int) -> int:
        while root[number] != number:
            number = root[number]
        return number

    for number in _sorted(items, writer):
        item = items[number]
        before = {(writer[n], n) for n in item.reads if n in writer and writer[n] != number}
        inside = {
            (p, n)
            for p, n in before
            if items[p].ops
            and item.ops
            and n not in crossing
            and symbols.get(n) == symbols.get(item.writes[0])
        }
        leaves = ((p, bool(items[p].ops) and (p, n) not in inside) for p, n in before)
        depth[number] = max((depth[p] + left for p, left in leaves), default=0)
        if not item.ops:
            continue
        root[number] = number
        for p, _ in sorted(inside):
            if depth[p] == depth[number]:
                root[find(p)] = find(number)
    members: dict[int, list[Op]] = {}
    for number in sorted(root):
        members.setdefault(find(number), []).extend(items[number].ops)
    order = {op.output: n for n, op in enumerate(mine)}
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


def _region(
    graph: Graph, plan: IntegerPlan, ops: tuple[Op, ...], symbols: Mapping[str, str], taken: Taken
) -> Region:
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
    layers = (op for op in ops if isinstance(op, Layer | Product))
    ended = {op.output: op for op in layers if op.output in taken.accumulators}
    return Region(name, ops, tuple(nodes), inputs, outputs, any(o in symbols for o in outputs), ended)
