"""An If whose condition is constant: its one branch, in its place."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import onnx_graphsurgeon as gs

from optc.models.model import Model
from optc.passes.base import Context, Contract, Exact
from optc.passes.canonicalize.edit import Edit, all_graphs, edit_graphs


@dataclass(frozen=True)
class InlineIfs:
    """Replace an If with a constant condition by the nodes of the branch that is taken."""

    name: ClassVar[str] = "inline-ifs"
    contract: ClassVar[Contract] = Exact()

    def run(self, model: Model, context: Context) -> bool:
        """Inline; inner names that are in use outside are changed."""
        return edit_graphs(model, context, _inline)


def _inline(edit: Edit) -> bool:
    for node in edit.nodes("If"):
        condition = edit.constant_input(node, 0)
        if condition is None or condition.size != 1:
            continue
        branch = node.attrs["then_branch" if condition.reshape(-1)[0] else "else_branch"]
        if not _is_simple(branch):
            edit.context.decline(node, "a branch that gives an outer value or a constant is not inlined")
            continue
        _splice(edit, node, branch)
        return True  # the list of nodes is another one: what is left is for the next round
    return False


def _is_simple(branch: gs.Graph) -> bool:
    """Whether every output is made by a node of the branch, each another."""
    made = {id(t) for node in branch.nodes for t in node.outputs}
    outputs = [id(t) for t in branch.outputs]
    return all(i in made for i in outputs) and len(set(outputs)) == len(outputs)


def _splice(edit: Edit, node: gs.Node, branch: gs.Graph) -> None:
    nodes = list(branch.nodes)
    outside = _names_outside(edit, branch)
    for tensor in _own_tensors(branch):
        if tensor.name in outside:
            tensor.name = edit.new_name(tensor.name)
    branch.nodes.clear()
    place = next(i for i, n in enumerate(edit.graph.nodes) if n is node)
    results = list(node.outputs)
    edit.remove(node)
    edit.graph.nodes[place + 1 : place + 1] = nodes
    for inner, outer in zip(branch.outputs, results, strict=True):
        if outer.name:
            maker = inner.inputs[0]
            edit.replace_uses(inner, outer)
            edit.set_output(maker, next(i for i, t in enumerate(maker.outputs) if t is inner), outer)


def _own_tensors(branch: gs.Graph) -> list[gs.Tensor]:
    """The tensors that belong to the branch: what its nodes make, and constants only it reads."""
    own: dict[int, gs.Tensor] = {}
    inside = {id(n) for graph in all_graphs(branch) for n in graph.nodes}
    for node in branch.nodes:
        for tensor in node.outputs:
            own[id(tensor)] = tensor
        for tensor in node.inputs:
            if isinstance(tensor, gs.Constant) and all(id(user) in inside for user in tensor.outputs):
                own[id(tensor)] = tensor
    return [t for t in own.values() if t.name]


def _names_outside(edit: Edit, branch: gs.Graph) -> set[str]:
    """Every name in the model that is not a tensor of the branch itself."""
    own = {id(t) for t in _own_tensors(branch)}
    names: set[str] = set()
    for graph in all_graphs(edit.model.view):
        tensors = [*graph.inputs, *(() if graph is branch else graph.outputs)]
        for node in graph.nodes:
            tensors += [*node.inputs, *node.outputs]
        names.update(t.name for t in tensors if id(t) not in own)
    return names
