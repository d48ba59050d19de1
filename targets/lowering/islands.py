"""Islands: parts of the graph that run in ONNX Runtime, cut out as models of their own."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Protocol, TypeVar

import onnx

from optc.models.model import Model
from optc.targets.lowering.graph import Graph, Type, uses


class WholeGraphError(Exception):
    """No cut is possible: the whole graph has to be one island. The text is the reason."""


@dataclass(frozen=True)
class Island:
    """A convex set of nodes (indices into `Graph.nodes`), and the values that cross its border."""

    nodes: tuple[int, ...]
    inputs: tuple[str, ...]
    outputs: tuple[str, ...]


def plan(graph: Graph, refused: Mapping[int, str]) -> tuple[list[Island], dict[int, str]]:
    """Group the nodes that TVM does not run into as few islands as may be, none in a cycle with another.

    `refused`: node index to reason. Returns the islands and `refused` with the nodes that had to join them.
    Raises `WholeGraphError` where a value that cannot cross into TVM is an input or output of the graph.
    """
    reasons = dict(refused)
    producer = {o: i for i, node in enumerate(graph.nodes) for o in node.output if o}
    while True:
        _join_unpassable(graph, producer, reasons)
        groups = _groups(graph, producer, reasons)
        between = _between(graph, producer, groups, reasons)
        if not between:
            break
        for index in between:
            reasons[index] = "lies between parts of an island that cannot be cut apart"
    members: dict[int, list[int]] = {}
    for index in sorted(groups):
        members.setdefault(groups[index], []).append(index)
    return [_island(graph, nodes) for nodes in members.values()], reasons


def _join_unpassable(graph: Graph, producer: Mapping[str, int], reasons: dict[int, str]) -> None:
    """Let the producer and the users of a value that cannot cross join the island that touches it."""
    users: dict[str, list[int]] = {}
    for index, node in enumerate(graph.nodes):
        for name in uses(node):
            users.setdefault(name, []).append(index)
    ends = {*graph.inputs, *graph.outputs}
    work = sorted(reasons)
    while work:
        node = graph.nodes[work.pop()]
        for name in (*uses(node), *(o for o in node.output if o)):
            if name in graph.constants or graph.passable(name) is not None:
                continue
            if name in ends:
                raise WholeGraphError(f"'{name}', an input or output of the model, {why_not(graph, name)}")
            others = [*users.get(name, []), *([producer[name]] if name in producer else [])]
            for other in others:
                if other not in reasons:
                    reasons[other] = f"'{name}' {why_not(graph, name)}"
                    work.append(other)


def why_not(graph: Graph, name: str) -> str:
    """Why a value cannot cross between ONNX Runtime and TVM, as the end of a sentence."""
    info = graph.infos.get(name)
    found = graph.types.get(name)
    if info is not None and info.type.WhichOneof("value") not in (None, "tensor_type"):
        return f"is a {info.type.WhichOneof('value').removesuffix('_type').replace('_', ' ')}, not a tensor"
    if found is None:
        return "has a shape that cannot be inferred"
    if graph.passable(name) is None and all(isinstance(d, int) for d in found.dims):
        return f"is of type {onnx.TensorProto.DataType.Name(found.element).lower()}"
    return "has a shape that depends on data, or on free dimensions (bind those with --shape)"


def _groups(graph: Graph, producer: Mapping[str, int], reasons: Mapping[int, str]) -> dict[int, int]:
    """Refused node to the number of its island.

    A node's depth counts how often a path to it goes from refused to other nodes: refused nodes of one depth
    have no other node between them, so those that are connected form one island, and no cycle arises.
    """
    depth: list[int] = []
    root: dict[int, int] = {}

    def find(index: int) -> int:
        while root[index] != index:
            index = root[index]
        return index

    for index, node in enumerate(graph.nodes):
        before = [producer[n] for n in uses(node) if n in producer]
        here = index in reasons
        depth.append(max((depth[p] + (p in reasons and not here) for p in before), default=0))
        if here:
            root[index] = index
            for p in before:
                if p in reasons and depth[p] == depth[index]:
                    root[find(p)] = index
    return {index: find(index) for index in root}


def _between(
    graph: Graph, producer: Mapping[str, int], groups: Mapping[int, int], reasons: Mapping[int, str]
) -> set[int]:
    """Nodes that must join so that no value that cannot pass leaves an island."""
    after: list[set[int]] = [set() for _ in graph.nodes]
    joined: set[int] = set()
    for index, node in enumerate(graph.nodes):
        for name in uses(node):
            if name in producer:
                after[producer[name]].add(index)
                if _parted(graph, groups, name, producer[name], index):
                    joined |= _paths(graph, producer, groups, producer[name], index)
    return {i for i in joined if i not in reasons}


def _parted(graph: Graph, groups: Mapping[int, int], name: str, first: int, last: int) -> bool:
    """Whether a value that cannot cross goes from one island to another."""
    inside = first in groups and last in groups
    return inside and groups[first] != groups[last] and graph.passable(name) is None


def _paths(
    graph: Graph, producer: Mapping[str, int], groups: Mapping[int, int], first: int, last: int
) -> set[int]:
    """Nodes on paths from the island of `first` to the island of `last`."""
    start = {i for i, g in groups.items() if g == groups[first]}
    end = {i for i, g in groups.items() if g == groups[last]}
    below = set(start)
    for index, node in enumerate(graph.nodes):
        if any(producer.get(n) in below for n in uses(node)):
            below.add(index)
    above = set(end)
    for index in range(len(graph.nodes) - 1, -1, -1):
        if index in above:
            above.update(producer[n] for n in uses(graph.nodes[index]) if n in producer)
    return below & above


def _island(graph: Graph, nodes: list[int]) -> Island:
    inside = {o for i in nodes for o in graph.nodes[i].output if o}
    read = dict.fromkeys(n for i in nodes for n in uses(graph.nodes[i]))
    inputs = [n for n in read if n not in inside and n not in graph.constants]
    members = set(nodes)
    needed = set(graph.outputs)
    for index, node in enumerate(graph.nodes):
        if index not in members:
            needed.update(uses(node))
    outputs = [o for i in nodes for o in graph.nodes[i].output if o in needed]
    return Island(tuple(nodes), tuple(inputs), tuple(outputs))


class Unit(Protocol):
    """Nodes that are run together, and what they read from outside; an `Island` is one."""

    @property
    def nodes(self) -> tuple[int, ...]:
        """Indices into `Graph.nodes`."""

    @property
    def inputs(self) -> tuple[str, ...]:
        """The values that it reads."""


UnitT = TypeVar("UnitT", bound=Unit)


def schedule(graph: Graph, units: Sequence[UnitT]) -> list[int | UnitT]:
    """The units and the other nodes (by index), each after all that it depends on."""
    unit: dict[int, UnitT] = {i: u for u in units for i in u.nodes}
    producer = {o: i for i, node in enumerate(graph.nodes) for o in node.output if o}
    done: set[int] = set()
    order: list[int | UnitT] = []
    stack = list(range(len(graph.nodes) - 1, -1, -1))
    while stack:
        index = stack[-1]
        if index in done:
            stack.pop()
            continue
        whole = unit.get(index)
        members = (index,) if whole is None else whole.nodes
        read = uses(graph.nodes[index]) if whole is None else whole.inputs
        before = {producer[n] for n in read if n in producer}
        missing = sorted(before - done - set(members), reverse=True)
        if missing:
            stack.extend(missing)
        else:
            order.append(index if whole is None else whole)
            done.update(members)
    return order


def cut(graph: Graph, island: Island) -> Model:
    """The island as a model of its own, weights included."""
    nodes = [graph.nodes[i] for i in island.nodes]
    proto = onnx.ModelProto(ir_version=graph.proto.ir_version)
    proto.opset_import.extend(graph.proto.opset_import)
    proto.graph.name = "island_" + nodes[0].name
    proto.graph.node.extend(nodes)
    read = dict.fromkeys(n for node in nodes for n in uses(node))
    proto.graph.initializer.extend(graph.constants[n] for n in read if n in graph.constants)
    proto.graph.input.extend(_info(graph, n) for n in island.inputs)
    proto.graph.output.extend(_info(graph, n) for n in island.outputs)
    return Model(proto, graph.folder)


def _info(graph: Graph, name: str) -> onnx.ValueInfoProto:
    found: Type = graph.types[name]
    return onnx.helper.make_tensor_value_info(name, found.element, found.dims)
