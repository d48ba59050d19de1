"""Common subexpressions: compute once what several nodes compute alike."""

from __future__ import annotations

from collections.abc import Hashable
from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np
import onnx_graphsurgeon as gs

from optc.models.model import Model
from optc.passes.base import Context, Contract, Exact
from optc.passes.canonicalize.edit import Edit, edit_graphs, has_subgraph

RANDOM = {
    *("RandomNormal", "RandomNormalLike", "RandomUniform", "RandomUniformLike", "Multinomial", "Bernoulli"),
    "Dropout",
}
COMMUTATIVE = {"Add", "Mul", "And", "Or", "Xor", "Equal", "BitwiseAnd", "BitwiseOr", "BitwiseXor"}


@dataclass(frozen=True)
class ShareNodes:
    """Remove a node that has the operator, inputs and attributes of an earlier one of the same graph.

    Never random operators, nodes with subgraphs, or nodes of other domains, whose effects are not known.
    """

    name: ClassVar[str] = "share-nodes"
    contract: ClassVar[Contract] = Exact()

    def run(self, model: Model, context: Context) -> bool:
        """Share; two graph outputs keep their two nodes."""
        return edit_graphs(model, context, _share)


def _share(edit: Edit) -> bool:
    first: dict[Hashable, gs.Node] = {}
    changed = False
    for node in edit.nodes():
        if node.op in RANDOM or has_subgraph(node) or not node.inputs:
            continue
        kept = first.setdefault(_key(node), node)
        if kept is not node:
            changed |= _merge(edit, kept, node)
    return changed


def _merge(edit: Edit, kept: gs.Node, node: gs.Node) -> bool:
    if len(node.outputs) == 1:
        return edit.bypass(node, kept.outputs[0])
    if any(edit.is_output(t) for t in node.outputs):
        return False
    for old, new in zip(node.outputs, kept.outputs, strict=True):
        edit.replace_uses(old, new)
    edit.remove(node)
    return True


def _key(node: gs.Node) -> Hashable:
    inputs = [id(t) if t.name else 0 for t in node.inputs]
    if node.op in COMMUTATIVE:
        inputs.sort()
    named = tuple(bool(t.name) for t in node.outputs)
    attrs = tuple(sorted((name, _attribute_key(value)) for name, value in node.attrs.items()))
    return node.op, tuple(inputs), named, attrs


def _attribute_key(value: Any) -> str:
    if isinstance(value, gs.Constant):
        array = np.asarray(value.values)
        return f"{array.dtype} {array.shape} {array.tobytes().hex()}"
    return repr(value)
