"""What the nodes of a model compute and move, and how long that takes on one of several devices."""

from __future__ import annotations

from collections.abc import Sequence

import onnx

from optc.models.model import Model
from optc.models.wiring import node_name, reads
from optc.passes.analysis.counts import graph_macs, inferred_graph
from optc.passes.partition.cluster import Device, Link
from optc.passes.partition.problem import (
    PICKS,
    constant_bytes,
    in_order,
    inner_bytes,
    value_bytes,
)
from optc.passes.partition.sharding.collectives import move_seconds, reduce_seconds
from optc.passes.partition.sharding.layout import Layout, Spec
from optc.passes.partition.sharding.layouts import layouts, whole
from optc.passes.partition.sharding.op import Facts, Op
from optc.passes.partition.sharding.rules import factors
from optc.passes.partition.sharding.units import Units


class Work:
    """A model's nodes in topological order, shared out over `count` devices like `device`.

    The nodes and their places are those of `Problem.of`; a node that is whole takes what it takes there.
    """

    def __init__(self, model: Model, device: Device, link: Link, count: int) -> None:
        self.graph = graph = inferred_graph(model)
        self.device, self.link, self.count = device, link, count
        self.facts = Facts.of_graph(graph, model.opset)
        self.nodes = in_order([n for n in graph.node if n.op_type != "Constant"])
        self.names = [node_name(node) for node in self.nodes]
        self.ops = [self.facts.op(node) for node in self.nodes]
        self.kept = [output.name for output in graph.output]
        self.constants = constant_bytes(graph)
        self.bytes = value_bytes(graph) | self.constants
        self.inner = [inner_bytes(node) for node in self.nodes]
        self.macs = graph_macs(graph)
        self.makers = {name: place for place, node in enumerate(self.nodes) for name in node.output if name}

    def layouts(self) -> list[list[Layout]]:
        """The layouts of each node, the whole one first, cut where neighbours can be cut alike."""
        units = Units()
        for op, node in zip(self.ops, self.nodes, strict=True):
            for factor in factors(op):
                units.tie(factor, node.input, node.output)

        def of(op: Op, node: onnx.NodeProto) -> list[Layout]:
            return layouts(op, self.count, lambda f: units.of(f, node.input, node.output, self.count))

        return [of(op, node) for op, node in zip(self.ops, self.nodes, strict=True)]

    def whole(self, place: int) -> Layout:
        """The layout of a node that every device runs as it is."""
        return whole(self.ops[place])

    def reads(self, place: int, layout: Layout) -> dict[tuple[str, Spec], None]:
        """Values and constants that a node reads, each with the layout that it reads it in, in order.

        What its subgraphs read, they read whole.
        """
        node = self.nodes[place]
        found = dict.fromkeys(zip(node.input, layout.inputs, strict=True))
        if any(a.HasField("g") or a.graphs for a in node.attribute):
            found |= dict.fromkeys((name, None) for name in reads(node) if name not in node.input)
        return {key: None for key in found if key[0]}

    def share(self, name: str, spec: Spec) -> float:
        """The bytes of a value or constant that the device with the largest part of it holds."""
        return max(self._shares(name, spec))

    def _shares(self, name: str, spec: Spec) -> list[float]:
        size = self.bytes.get(name, 0)
        if spec is None:
            return [size] * self.count
        full = self._size(name, spec.axis)
        return [size * (stop - start) / full for start, stop in spec.ranges]

    def _size(self, name: str, axis: int) -> int:
        size = self.facts.shapes[name][axis]
        assert isinstance(size, int), "only axes of known size are split"
        return size

    def weight_bytes(self, layouts: Sequence[Layout], start: int = 0) -> float:
        """The bytes of constants that a device holds for the nodes from `start` on in these layouts.

        A constant that is read in two layouts is held twice.
        """
        read = {key for place, layout in enumerate(layouts, start) for key in self.reads(place, layout)}
        return sum(self.share(name, spec) for name, spec in read if name in self.constants)

    def seconds(self, place: int, layout: Layout) -> float:
        """What a node takes in `layout` on the slowest device, with the sum of its terms."""
        node = self.nodes[place]
        devices = range(self.count)
        written = [0.0] * self.count
        for name, spec in zip(node.output, layout.outputs, strict=True):
            for t, size in enumerate(self._shares(name, None if layout.reduce else spec)):
                written[t] += size
        read: dict[str, list[float]] = {}
        for name, spec in self.reads(place, layout):
            sizes = self._shares(name, spec)
            if node.op_type in PICKS and name == node.input[0]:
                sizes = [min(a, b) for a, b in zip(sizes, written, strict=True)]
            read[name] = [max(a, b) for a, b in zip(sizes, read.get(name, sizes), strict=True)]
        moved = [written[t] + sum(sizes[t] for sizes in read.values()) + self.inner[place] for t in devices]
        macs = self._macs(place, layout)
        device = self.device
        work = max(max(macs[t] / device.macs_per_second, moved[t] / device.bytes_per_second) for t in devices)
        return work + (self._reduce_seconds(place, layout) if layout.reduce else 0.0)

    def _macs(self, place: int, layout: Layout) -> list[float]:
        """Multiply-accumulates of each device."""
        macs, node = self.macs.get(self.names[place], 0), self.nodes[place]
        name, spec = (
            (node.input[0], layout.inputs[0]) if layout.reduce else (node.output[0], layout.outputs[0])
        )
        if spec is None or not macs:
            return [macs] * self.count
        full = self._size(name, spec.axis)
        return [macs * (stop - start) / full for start, stop in spec.ranges]

    def _reduce_seconds(self, place: int, layout: Layout) -> float:
        name, spec = self.nodes[place].output[0], layout.outputs[0]
        return reduce_seconds(spec, self.facts.shapes[name], self.bytes.get(name, 0), self.link, self.count)

    def move_seconds(self, name: str, have: Spec, want: Spec) -> float:
        """What it takes to give each device its part of a value that lies as `have` in the layout `want`."""
        assert have is not None, "a whole value needs no collective"
        return move_seconds(have, want, self.facts.shapes[name], self.bytes.get(name, 0), self.link)
