"""Refusing graphs whose nodes wait for each other."""

from __future__ import annotations

from collections.abc import Iterator

import onnx

from optc.models.errors import InputError


def check_acyclic(graph: onnx.GraphProto, where: str) -> None:
    """`InputError` naming a node that depends on its own output, in `graph` or in a subgraph.

    Nodes in any order are fine: ONNX Runtime sorts them too. Linear in the size of the graph.
    """
    producer = {name: i for i, node in enumerate(graph.node) for name in node.output if name}
    needs = [{producer[n] for n in _reads(node) if n in producer} for node in graph.node]
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
        name = node.name or next(iter(node.output), "?")
        raise InputError(
            f"{where}: the graph has a cycle at node {name} ({node.op_type}); export the model again",
            name,
        )
    for node in graph.node:
        for body in _bodies(node):
            check_acyclic(body, where)


def _reads(node: onnx.NodeProto) -> Iterator[str]:
    """What a node reads: its inputs, and every name that its subgraphs read, theirs or from outside."""
    yield from node.input
    for body in _bodies(node):
        own = {name for inner in body.node for name in inner.output}
        own |= {value.name for value in body.input} | {tensor.name for tensor in body.initializer}
        for inner in body.node:
            yield from (name for name in _reads(inner) if name not in own)
        yield from (output.name for output in body.output if output.name not in own)


def _bodies(node: onnx.NodeProto) -> Iterator[onnx.GraphProto]:
    for attribute in node.attribute:
        if attribute.HasField("g"):
            yield attribute.g
        yield from attribute.graphs
