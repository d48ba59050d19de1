"""Editing one graph safely: what may be rewired, replaced or removed, and what must not."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import Any

import numpy as np
import onnx_graphsurgeon as gs
from numpy.typing import NDArray
from onnx_graphsurgeon.ir.tensor import SparseValues

from optc.models.model import Model
from optc.passes.base import Context

Array = NDArray[Any]


def all_graphs(graph: gs.Graph) -> Iterator[gs.Graph]:
    """`graph` and the graphs inside its nodes, outer ones first."""
    yield graph
    for node in graph.nodes:
        for value in node.attrs.values():
            if isinstance(value, gs.Graph):
                yield from all_graphs(value)


def has_subgraph(node: gs.Node) -> bool:
    """Whether a node holds a graph (If, Loop, Scan, SequenceMap)."""
    return any(isinstance(value, gs.Graph) for value in node.attrs.values())


def standard(node: gs.Node) -> bool:
    """Whether a node is of the ONNX domain: what others do is not known."""
    return node.domain in (None, "", "ai.onnx")


def edit_graphs(
    model: Model, context: Context, rewrite: Callable[[Edit], bool], inner_first: bool = False
) -> bool:
    """Run `rewrite` on the model's graph and on each graph inside it; whether any changed."""
    graphs = list(all_graphs(model.view))
    if inner_first:
        graphs.reverse()
    kept = {t.name for graph in graphs for t in graph.outputs}
    changed = False
    for graph in graphs:
        edit = Edit(graph, model, context, kept)
        changed |= rewrite(edit)
        edit.finish()
    if changed:
        model.changed = True
    return changed


class Edit:
    """One graph under edit. Consumers in subgraphs count; graph outputs keep their names.

    `finish` must be called after the last change: it drops the removed nodes.
    """

    def __init__(self, graph: gs.Graph, model: Model, context: Context, kept: set[str]) -> None:
        self.graph = graph
        self.model = model
        self.context = context
        self.opset = model.opset
        self._kept = kept
        self._overridable = set(model.overridable)
        self._local = {id(node) for node in graph.nodes}
        self._removed: set[int] = set()
        self._names: set[str] | None = None

    def nodes(self, *ops: str) -> Iterator[gs.Node]:
        """The standard nodes of the given operators (all, if none is given), in order, removed ones not."""
        chosen = (n for n in self.graph.nodes if (not ops or n.op in ops) and standard(n))
        for node in self.context.visit(chosen):
            if id(node) not in self._removed:
                yield node

    def constant(self, tensor: gs.Tensor) -> Array | None:
        """The values of a constant that nobody can override, None for all else and for types numpy lacks."""
        return tensor.values if self.is_constant(tensor) else None

    def is_constant(self, tensor: gs.Tensor) -> bool:
        """Whether `constant` gives this tensor's values; loads nothing."""
        return (
            isinstance(tensor, gs.Constant)
            and tensor.name not in self._overridable
            and not isinstance(tensor._values, SparseValues)
            and not isinstance(tensor.dtype, int)
            and np.dtype(tensor.dtype).kind in "fiub"
        )

    def input(self, node: gs.Node, index: int) -> gs.Tensor | None:
        """The input at `index`, None where it is absent."""
        if index >= len(node.inputs) or not node.inputs[index].name:
            return None
        return node.inputs[index]

    def constant_input(self, node: gs.Node, index: int) -> Array | None:
        """The values of the input at `index`, None where it is absent or no constant."""
        tensor = self.input(node, index)
        return None if tensor is None else self.constant(tensor)

    def producer(self, tensor: gs.Tensor) -> gs.Node | None:
        """The standard node of this graph that makes `tensor`, None where there is none."""
        if not tensor.inputs or id(tensor.inputs[0]) not in self._local:
            return None
        node = tensor.inputs[0]
        return node if standard(node) else None

    def is_output(self, tensor: gs.Tensor) -> bool:
        """Whether some graph's output has this tensor's name, so that the name must stay."""
        return tensor.name in self._kept

    def only_use(self, tensor: gs.Tensor) -> bool:
        """Whether exactly one input anywhere reads `tensor`, and no graph output is it."""
        return len(tensor.outputs) == 1 and not self.is_output(tensor)

    def new_constant(self, base: str, values: Array) -> gs.Constant:
        """A constant with an unused name that begins with `base`."""
        return gs.Constant(self.new_name(base), np.ascontiguousarray(values).reshape(values.shape))

    def new_name(self, base: str) -> str:
        """`base`, or `base_1`, `base_2`, …: the first that no value or node of the model is called."""
        if self._names is None:
            self._names = all_names(self.model.view)
        name, number = base, 0
        while name in self._names:
            number += 1
            name = f"{base}_{number}"
        self._names.add(name)
        return name

    def set_input(self, node: gs.Node, index: int, tensor: gs.Tensor) -> None:
        """Make `tensor` the input at `index` (appending where that is the next one)."""
        if index == len(node.inputs):
            list.append(node.inputs, tensor)
        else:
            _discard(node.inputs[index].outputs, node)
            list.__setitem__(node.inputs, index, tensor)
        list.append(tensor.outputs, node)

    def put_constant(self, node: gs.Node, index: int, values: Array) -> None:
        """Give a layer a new weight or bias: in place where the old one is its own."""
        old = self.input(node, index)
        if isinstance(old, gs.Constant) and len(old.outputs) == 1 and not self.is_output(old):
            old.values = values
            return
        base = old.name if old is not None else f"{node.name or node.outputs[0].name}_bias"
        self.set_input(node, index, self.new_constant(base, values))

    def insert(self, before: gs.Node, nodes: Sequence[gs.Node]) -> None:
        """Put new `nodes` in front of a node of this graph."""
        place = next(i for i, node in enumerate(self.graph.nodes) if node is before)
        self.graph.nodes[place:place] = nodes
        self._local.update(id(node) for node in nodes)

    def set_inputs(self, node: gs.Node, tensors: Sequence[gs.Tensor]) -> None:
        """Replace all inputs of a node."""
        for tensor in node.inputs:
            _discard(tensor.outputs, node)
        list.clear(node.inputs)
        for tensor in tensors:
            self.set_input(node, len(node.inputs), tensor)

    def set_output(self, node: gs.Node, index: int, tensor: gs.Tensor) -> None:
        """Make `node` the one producer of `tensor`, at output `index`."""
        _discard(node.outputs[index].inputs, node)
        for other in tensor.inputs:
            place = next(i for i, t in enumerate(other.outputs) if t is tensor)
            list.__setitem__(other.outputs, place, gs.Variable.empty())
        list.clear(tensor.inputs)
        list.__setitem__(node.outputs, index, tensor)
        list.append(tensor.inputs, node)

    def replace_uses(self, old: gs.Tensor, new: gs.Tensor) -> None:
        """Make every node that reads `old` read `new`."""
        for node in list(old.outputs):
            for index, tensor in enumerate(node.inputs):
                if tensor is old:
                    list.__setitem__(node.inputs, index, new)
                    list.append(new.outputs, node)
        list.clear(old.outputs)

    def bypass(self, node: gs.Node, source: gs.Tensor) -> bool:
        """Remove `node`, whose first output is `source`'s value; False where a name stands against it."""
        result = node.outputs[0]
        if not self.is_output(result):
            self.replace_uses(result, source)
            self.remove(node)
            return True
        maker = source.inputs[0] if source.inputs else None
        if maker is None or id(maker) not in self._local or self.is_output(source):
            return False
        self.remove(node)
        self.replace_uses(source, result)
        place = next(i for i, t in enumerate(maker.outputs) if t is source)
        self.set_output(maker, place, result)
        return True

    def remove(self, node: gs.Node) -> None:
        """Take a node out of the graph, with all that reads inside its subgraphs."""
        detach(node)
        self._removed.add(id(node))

    def finish(self) -> None:
        """Drop the removed nodes from the graph's list."""
        if self._removed:
            self.graph.nodes[:] = [n for n in self.graph.nodes if id(n) not in self._removed]
            self._local -= self._removed
            self._removed = set()


def detach(node: gs.Node) -> None:
    """Cut a node, and the nodes inside it, off all its tensors."""
    for value in node.attrs.values():
        if isinstance(value, gs.Graph):
            for inner in value.nodes:
                detach(inner)
    for tensor in node.inputs:
        _discard(tensor.outputs, node)
    for tensor in node.outputs:
        _discard(tensor.inputs, node)
    list.clear(node.inputs)
    list.clear(node.outputs)


def _discard(nodes: list[gs.Node], node: gs.Node) -> None:
    """Remove `node` once, by identity: GraphSurgeon's own way compares attributes, slowly."""
    for index, other in enumerate(nodes):
        if other is node:
            list.__delitem__(nodes, index)
            return


def all_names(graph: gs.Graph) -> set[str]:
    """The names of all values and nodes of `graph` and of the graphs inside it."""
    names: set[str] = set()
    for part in all_graphs(graph):
        names.update(t.name for t in (*part.inputs, *part.outputs))
        for node in part.nodes:
            names.update(t.name for t in (*node.inputs, *node.outputs))
            names.add(node.name)
    return names
