"""Refusing graphs whose nodes wait for each other, or for a value that nobody gives."""

from __future__ import annotations

from collections.abc import Iterator, Mapping

import onnx

from optc.models.errors import InputError


def check_wiring(graph: onnx.GraphProto, where: str, outer: frozenset[str] = frozenset()) -> None:
    """`InputError` naming a node that depends on its own output, or a value that is read but never made.

    Subgraphs are checked too; they see the names of `outer`. Nodes in any order are fine: ONNX Runtime sorts
    them as well. Linear in the size of the graph.
    """
    _check_acyclic(graph, where)
    known = outer | _made(graph)
    for node in graph.node:
        lost = next((n for n in node.input if n and n not in known), None)
        if lost is not None:
            raise InputError(f"{where}: {_name(node)} reads '{lost}', which nothing gives; export it again")
        for body in _bodies(node):
            check_wiring(body, where, known)
    for output in graph.output:
        if output.name not in known:
            raise InputError(f"{where}: nothing gives the output '{output.name}'; export the model again")


def _made(graph: onnx.GraphProto) -> frozenset[str]:
    """The names that `graph` itself gives a value."""
    names = {name for node in graph.node for name in node.output}
    names.update(value.name for value in graph.input)
    names.update(tensor.name for tensor in graph.initializer)
    names.update(sparse.values.name for sparse in graph.sparse_initializer)
    return frozenset(names)


def _check_acyclic(graph: onnx.GraphProto, where: str) -> None:
    producer = {name: i for i, node in enumerate(graph.node) for name in node.output if name}
    needs = [{producer[n] for n in reads(node) if n in producer} for node in graph.node]
    readers: list[list[int]] = [[] for _ in graph.node]
    for index, sources in enumerate(needs):
        for source in sources:
            readers[source].append(index)
    waiting = [len(sources) for sources in needs]
    ready = [i for i, count in enumerate(waiting) if count == 0]
    for index in ready:  # grows while it is walked
        for reader in readers[index]:
            waiting[reader] -= 1
            if waiting[reader] == 0:
                ready.append(reader)
    if len(ready) < len(graph.node):
        node = graph.node[next(i for i, count in enumerate(waiting) if count)]
        raise InputError(f"{where}: the graph has a cycle at {_name(node)}; export the model again")


def _name(node: onnx.NodeProto) -> str:
    return f"node {node.name or next(iter(node.output), '?')} ({node.op_type})"


def reads(node: onnx.NodeProto) -> Iterator[str]:
    """What a node reads: its inputs, and every name that its subgraphs read, theirs or from outside."""
    yield from node.input
    for body in _bodies(node):
        own = {name for inner in body.node for name in inner.output}
        own |= {value.name for value in body.input} | {tensor.name for tensor in body.initializer}
        for inner in body.node:
            yield from (name for name in reads(inner) if name not in own)
        yield from (output.name for output in body.output if output.name not in own)


def rename_in_bodies(node: onnx.NodeProto, names: Mapping[str, str]) -> None:
    """Let the subgraphs of `node` read what `names` says in place of values from outside, by their names."""
    for body in _bodies(node):
        own = _made(body)
        outer = {old: new for old, new in names.items() if old not in own}
        for inner in body.node:
            inner.input[:] = [outer.get(name, name) for name in inner.input]
            rename_in_bodies(inner, outer)
        for output in body.output:
            output.name = outer.get(output.name, output.name)


def node_name(node: onnx.NodeProto) -> str:
    """What stands for a node: its first named output, as names of nodes are optional in ONNX."""
    return next((name for name in node.output if name), node.name)


def _bodies(node: onnx.NodeProto) -> Iterator[onnx.GraphProto]:
    for attribute in node.attribute:
        if attribute.HasField("g"):
            yield attribute.g
        yield from attribute.graphs
