"""Remove what no output depends on."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import onnx
import onnx_graphsurgeon as gs

from optc.models.export import source_of
from optc.models.model import Model
from optc.passes.base import Context, Contract, Exact
from optc.passes.canonicalize.edit import Edit, edit_graphs, has_subgraph, standard


@dataclass(frozen=True)
class RemoveDead:
    """Remove nodes and initializers that nobody reads, and the optional outputs of nodes that nobody reads.

    Nodes of other domains stay: what they do besides is not known. Graph inputs stay.
    """

    name: ClassVar[str] = "remove-dead"
    contract: ClassVar[Contract] = Exact()

    def run(self, model: Model, context: Context) -> bool:
        """Remove; True also where only initializers went."""
        unused = not model.changed and _has_unused_initializers(model)
        changed = edit_graphs(model, context, _remove, inner_first=True)
        if unused:
            model.changed = True
        return changed or unused


def _has_unused_initializers(model: Model) -> bool:
    """Whether the file has initializers that the graph does not read: they go when it is written anew."""
    source = source_of(model.view)
    used = {t.name for t in model.view.tensors().values()} if source.initializer else set()
    return any(t.name not in used and t.name not in model.overridable for t in source.initializer)


def _remove(edit: Edit) -> bool:
    changed = False
    for node in reversed(edit.graph.nodes):
        if not standard(node) or not node.outputs:
            continue
        used = [bool(t.outputs) or edit.is_output(t) for t in node.outputs]
        if not any(used):
            edit.remove(node)
            changed = True
        elif not all(used) and not has_subgraph(node):
            changed |= _drop_outputs(edit, node, used)
    return changed


def _drop_outputs(edit: Edit, node: gs.Node, used: list[bool]) -> bool:
    """Leave out the optional outputs that nobody reads: an empty name, or nothing at the end."""
    optional = _optional_outputs(edit, node)
    changed = False
    for index, tensor in enumerate(node.outputs):
        if tensor.name and not used[index] and optional[index]:
            edit.set_output(node, index, gs.Variable.empty())
            changed = True
    while changed and node.outputs and not node.outputs[-1].name:
        empty = node.outputs[-1]
        list.pop(node.outputs)
        list.clear(empty.inputs)
    return changed


def _optional_outputs(edit: Edit, node: gs.Node) -> list[bool]:
    try:
        schema = onnx.defs.get_schema(node.op, edit.opset, "")
    except onnx.defs.SchemaError:
        return [False] * len(node.outputs)
    option = onnx.defs.OpSchema.FormalParameterOption.Optional
    flags = [output.option == option for output in schema.outputs]
    return [flags[i] if i < len(flags) else False for i in range(len(node.outputs))]
