"""Replace shape arithmetic by constants, also where the shape is only partly known."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import numpy as np
import onnx_graphsurgeon as gs

from optc.models.model import Model
from optc.passes.analysis.shape_values import Elements, ShapeValues
from optc.passes.analysis.shapes import Shape, reshape_target, shape_of
from optc.passes.base import Context, Contract, Exact
from optc.passes.canonicalize.edit import Edit, edit_graphs

SOURCES = ("Shape", "Size", "Gather", "Slice", "Concat", "Squeeze", "Unsqueeze", "Cast")
ARITHMETIC = ("Add", "Sub", "Mul", "Div")


@dataclass(frozen=True)
class FoldShapes:
    """Make constants of the shapes that the graph computes.

    A vector whose elements are all known becomes an initializer. The computed second input of a Reshape
    becomes one too where at most one element is not known (-1) besides those that copy the input's (0).
    """

    name: ClassVar[str] = "fold-shapes"
    contract: ClassVar[Contract] = Exact()

    def run(self, model: Model, context: Context) -> bool:
        """Fold; relies on the shapes that infer-shapes wrote."""
        return edit_graphs(model, context, _fold)


def _fold(edit: Edit) -> bool:
    if not any(n.op in ("Shape", "Size", "Reshape") for n in edit.graph.nodes):
        return False
    values = ShapeValues(edit.constant)
    values.learn(edit.graph.nodes)
    changed = _known_vectors(edit, values)
    for node in edit.nodes("Reshape"):
        changed |= _reshape(edit, node, values)
    return changed


def _known_vectors(edit: Edit, values: ShapeValues) -> bool:
    changed = False
    for node in edit.nodes(*SOURCES, *ARITHMETIC):
        tensor = node.outputs[0]
        found = values.value(tensor)
        dtype = np.dtype(np.int64) if node.op in ("Shape", "Size") else tensor.dtype
        if found is None or dtype is None or edit.is_output(tensor) or not tensor.outputs:
            continue
        elements = [e for e in found[0] if isinstance(e, int)]
        if len(elements) == len(found[0]):
            edit.remove(node)
            array = np.array(elements, dtype)
            tensor.to_constant(array.reshape(()) if found[1] == 0 else array)
            changed = True
    return changed


def _reshape(edit: Edit, node: gs.Node, values: ShapeValues) -> bool:
    if len(node.inputs) < 2 or isinstance(node.inputs[1], gs.Constant) or node.attrs.get("allowzero", 0):
        return False
    source = shape_of(node.inputs[0])
    elements = values.elements(node.inputs[1])
    target = None if elements is None else _from_elements(source, elements)
    if target is None:
        target = reshape_target(source, shape_of(node.outputs[0]))
    if target is None:
        return False
    shape = edit.new_constant(f"{node.outputs[0].name}_shape", np.array(target, np.int64))
    edit.set_input(node, 1, shape)
    return True


def _from_elements(source: Shape | None, elements: Elements) -> list[int] | None:
    """As `reshape_target`, for the elements of a Reshape's second input: numbers keep what 0 and -1 mean."""
    target: list[int] = []
    for place, element in enumerate(elements):
        copied = source is not None and place < len(source) and element == source[place]
        if isinstance(element, int):
            target.append(element)
        else:
            target.append(0 if copied and element is not None else -1)
    return target if target.count(-1) <= 1 else None
