"""Which nodes TVM imports and then fails to compile: each kind is tried in a module of its own."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import onnx

from optc.models.model import Model
from optc.models.session import first_line
from optc.targets.lowering.graph import Graph, uses
from optc.targets.lowering.importer import import_graph


def failing_nodes(graph: Graph, refused: Mapping[int, str], compile: Callable[[Any], Any]) -> dict[int, str]:
    """Node index to the compiler's complaint, for the nodes that fail by themselves."""
    verdicts: dict[bytes, str | None] = {}
    failed: dict[int, str] = {}
    for index, node in enumerate(graph.nodes):
        if index in refused or any(graph.passable(o) is None for o in node.output if o):
            continue
        alone = _alone(graph, node)
        key = _kind(alone)
        if key not in verdicts:
            verdicts[key] = _complaint(alone, compile)
        if verdicts[key] is not None:
            failed[index] = f"TVM cannot compile it: {verdicts[key]}"
    return failed


def _alone(graph: Graph, node: onnx.NodeProto) -> Model:
    proto = onnx.ModelProto(ir_version=graph.proto.ir_version)
    proto.opset_import.extend(graph.proto.opset_import)
    proto.graph.name = "alone"
    proto.graph.node.append(node)
    names = uses(node)
    proto.graph.initializer.extend(graph.constants[n] for n in names if n in graph.constants)
    proto.graph.input.extend(graph.infos[n] for n in names if n not in graph.constants)
    proto.graph.output.extend(graph.infos[o] for o in node.output if o)
    return Model(proto, graph.folder)


def _kind(model: Model) -> bytes:
    """Equal for nodes that differ in their names only."""
    proto = model.to_proto(embed=False)
    names: dict[str, str] = {}
    node = proto.graph.node[0]
    node.name = ""
    for values in (node.input, node.output):
        for index, name in enumerate(values):
            values[index] = names.setdefault(name, f"v{len(names)}") if name else ""
    for value in (*proto.graph.input, *proto.graph.output):
        value.name = names.get(value.name, value.name)
    for tensor in proto.graph.initializer:
        tensor.name = names.get(tensor.name, tensor.name)
    return bytes(proto.SerializeToString(deterministic=True))


def _complaint(model: Model, compile: Callable[[Any], Any]) -> str | None:
    try:
        module, refused = import_graph(Graph(model), [], [])
        if not refused:
            compile(module)
    except Exception as error:
        return first_line(error)
    return None
