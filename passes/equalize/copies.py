"""Normalizations of their own for the layers that read one: others read it too, and need it as it is."""

from __future__ import annotations

import onnx_graphsurgeon as gs

from optc.models.model import Model
from optc.passes.canonicalize.edit import Edit
from optc.passes.equalize.groups import NORMALIZATIONS, Found
from optc.passes.names import layer_name


def blocked(model: Model, found: Found, names: set[str]) -> list[tuple[gs.Node, list[gs.Node]]]:
    """The normalizations in no group, and the layers that read each directly, all of these `names`.

    Only those that something else reads too: others would stay blocked in a copy.
    """
    outputs = {id(t) for t in model.view.outputs}
    moved = {id(s.place.node) for g in found.groups for s in g.makers}
    result = []
    for node in {id(s.place.node): s.place.node for s in found.slots if s.makes}.values():
        if node.op not in NORMALIZATIONS or id(node) in moved or layer_name(node) not in names:
            continue
        value = node.outputs[0]
        readers = (s.place.node for s in found.slots if s.weight and s.value.tensor is value)
        layers = list({id(n): n for n in readers if layer_name(n) in names}.values())
        if layers and (len(layers) < len(value.outputs) or id(value) in outputs):
            result.append((node, layers))
    return result


def give_copies(edit: Edit, pairs: list[tuple[gs.Node, list[gs.Node]]]) -> None:
    """Let the layers of each pair read a copy of its normalization."""
    for node, layers in pairs:
        old = node.outputs[0]
        name = f"{old.name}_copy"
        new = gs.Variable(edit.new_name(name), old.dtype, old.shape)
        copy = gs.Node(node.op, edit.new_name(f"{name}_node"), dict(node.attrs), domain=node.domain)
        edit.set_inputs(copy, list(node.inputs))
        copy.outputs.append(new)
        edit.insert(node, [copy])
        for layer in layers:
            edit.set_input(layer, 0, new)
