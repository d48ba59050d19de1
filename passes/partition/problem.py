"""What is to be partitioned: items that take time, the values between them, and weights; no ONNX any more."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from functools import cached_property
from heapq import heapify, heappop, heappush

import onnx

from optc.models import storage
from optc.models.model import Model
from optc.models.wiring import node_name, reads
from optc.passes.analysis.counts import graph_macs, inferred_graph
from optc.passes.partition.cluster import Device

INPUT = -1
"""The producer of a value that the caller gives: it lies ready on every device."""

PICKS = {"Gather", "GatherElements", "GatherND", "Slice"}
"""Operators that read no more of their first input than they write."""


@dataclass(frozen=True)
class Item:
    """Something that one device does in one go: `seconds` on the first device that the problem is for.

    `macs`: the multiply-accumulates in it, which only tell equal shares of work.
    """

    name: str
    seconds: float
    macs: int = 0


@dataclass(frozen=True)
class Value:
    """What item `producer` makes (`INPUT`: the caller) and the items of `readers`, ascending, need.

    It is sent once from the producer's stage to each other stage that has a reader, straight, not through
    the stages between. `kept`: it is a result of the whole.
    """

    name: str
    producer: int
    readers: tuple[int, ...]
    bytes: int
    kept: bool = False


@dataclass(frozen=True)
class Weight:
    """Constant data; each stage with one of its `readers` (ascending) holds one copy."""

    name: str
    readers: tuple[int, ...]
    bytes: int


@dataclass(frozen=True)
class Problem:
    """Items in topological order, by whose places values and weights name them.

    `unknown` counts values whose size is not known and stands as 0 bytes. `times`, where devices differ in
    speed: the seconds of every item on each device, in the devices' order; none: as `Item.seconds` says.
    """

    items: tuple[Item, ...]
    values: tuple[Value, ...] = ()
    weights: tuple[Weight, ...] = ()
    unknown: int = 0
    times: tuple[tuple[float, ...], ...] = ()

    def __post_init__(self) -> None:
        for value in self.values:
            if any(r <= value.producer for r in value.readers) or value.producer < INPUT:
                raise ValueError(f"value '{value.name}' is read before it is made")
        every: list[Value | Weight] = [*self.values, *self.weights]
        for used in every:
            if list(used.readers) != sorted(set(used.readers)) or used.bytes < 0:
                raise ValueError(f"'{used.name}': readers must ascend, bytes be at least 0")
            if used.readers and not 0 <= used.readers[0] <= used.readers[-1] < len(self.items):
                raise ValueError(f"'{used.name}' is read by an item that there is not")
        if any(item.seconds < 0 for item in self.items) or any(t < 0 for row in self.times for t in row):
            raise ValueError("an item takes less than no time")
        if any(len(row) != len(self.items) for row in self.times):
            raise ValueError("a device has not one time for each item")

    @property
    def seconds(self) -> float:
        """All items one after the other, on the first device."""
        return sum(item.seconds for item in self.items)

    def on(self, device: int) -> tuple[float, ...]:
        """Seconds of every item on the device of this number in the cluster."""
        return self.times[device] if self.times else self._own

    @cached_property
    def _own(self) -> tuple[float, ...]:
        return tuple(item.seconds for item in self.items)

    @classmethod
    def of(cls, model: Model, *devices: Device) -> Problem:
        """`model`'s main graph with an item a node, named by its first output, local functions inlined.

        One device stands for all; several (a cluster's, in order) give `times` where they differ in speed.

        A node takes the longer of its MACs and of moving its weights, inputs and outputs once (roofline); of
        a table that it gathers from, no more than what it gathers.
        Initializers and Constant nodes are weights of their readers. Free dimensions count as 1; MACs inside
        subgraphs are not counted.
        """
        return of_graph(inferred_graph(model), devices)


def of_graph(graph: onnx.GraphProto, devices: Sequence[Device]) -> Problem:
    """As `Problem.of`, of a graph that has its shapes already and no local functions."""
    nodes = in_order([n for n in graph.node if n.op_type != "Constant"])
    made = {name: place for place, node in enumerate(nodes) for name in node.output if name}
    readers: dict[str, list[int]] = {name: [] for name in made}
    for place, node in enumerate(nodes):
        for name in dict.fromkeys(reads(node)):
            readers.setdefault(name, []).append(place)
    constants = constant_bytes(graph)
    sizes = value_bytes(graph)
    kept = {output.name for output in graph.output}
    values = tuple(
        Value(name, made.get(name, INPUT), tuple(places), sizes.get(name, 0), name in kept)
        for name, places in readers.items()
        if name in made or (name in sizes and name not in constants)
    )
    weights = [Weight(n, tuple(readers[n]), size) for n, size in constants.items() if n in readers]
    weights += [
        Weight(f"in {node_name(n)}", (i,), size) for i, n in enumerate(nodes) if (size := inner_bytes(n))
    ]
    moved = [0] * len(nodes)
    for value in values:
        if value.producer != INPUT:
            moved[value.producer] += value.bytes
    written = list(moved)
    read: list[Value | Weight] = [*values, *weights]
    for used in read:
        for place in used.readers:
            picked = nodes[place].op_type in PICKS and used.name == nodes[place].input[0]
            moved[place] += min(used.bytes, written[place]) if picked else used.bytes
    macs = graph_macs(graph)
    work = [(macs.get(node_name(node), 0), moved[i]) for i, node in enumerate(nodes)]
    speeds = [(device.macs_per_second, device.bytes_per_second) for device in devices]
    times = [tuple(max(m / a, b / c) for m, b in work) for a, c in speeds]
    items = tuple(Item(node_name(n), t, m) for n, t, (m, _) in zip(nodes, times[0], work, strict=True))
    unknown = sum(value.name not in sizes for value in values)
    return Problem(items, values, tuple(weights), unknown, tuple(times) if len(set(speeds)) > 1 else ())


def in_order(nodes: list[onnx.NodeProto]) -> list[onnx.NodeProto]:
    """The nodes in topological order, as near to the given one as that allows."""
    made = {name: place for place, node in enumerate(nodes) for name in node.output if name}
    needs = [{made[n] for n in reads(node) if n in made} for node in nodes]
    followers: list[list[int]] = [[] for _ in nodes]
    for place, sources in enumerate(needs):
        for source in sources:
            followers[source].append(place)
    waiting = [len(sources) for sources in needs]
    ready = [place for place, count in enumerate(waiting) if not count]
    heapify(ready)
    order = []
    while ready:
        place = heappop(ready)
        order.append(nodes[place])
        for follower in followers[place]:
            waiting[follower] -= 1
            if not waiting[follower]:
                heappush(ready, follower)
    return order


def constant_bytes(graph: onnx.GraphProto) -> dict[str, int]:
    """Bytes of every initializer and Constant node of the main graph."""
    found = {tensor.name: storage.byte_size(tensor) for tensor in graph.initializer}
    for sparse in graph.sparse_initializer:
        found[sparse.values.name] = storage.byte_size(sparse.values) + storage.byte_size(sparse.indices)
    for node in graph.node:
        if node.op_type == "Constant":
            found[node.output[0]] = _tensor_bytes([node])
    return found


def inner_bytes(node: onnx.NodeProto) -> int:
    """Bytes of the tensors in a node's subgraphs."""
    held = any(a.HasField("g") or a.graphs for a in node.attribute)
    return _tensor_bytes([node]) if held else 0


def _tensor_bytes(nodes: Iterable[onnx.NodeProto]) -> int:
    proto = onnx.ModelProto(graph=onnx.GraphProto(node=nodes))
    return sum(storage.byte_size(tensor) for tensor in storage.tensors_of(proto))


def value_bytes(graph: onnx.GraphProto) -> dict[str, int]:
    """Bytes of the values of known shape; a free dimension counts as 1."""
    found = {}
    for info in (*graph.input, *graph.value_info, *graph.output):
        kind = info.type.tensor_type
        if kind.HasField("shape") and kind.elem_type not in (0, onnx.TensorProto.STRING):
            dims = [
                d.dim_value if d.HasField("dim_value") and d.dim_value >= 0 else 1 for d in kind.shape.dim
            ]
            found[info.name] = storage.byte_size(onnx.TensorProto(data_type=kind.elem_type, dims=dims))
    return found
