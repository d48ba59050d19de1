"""Splits as Slices, which have one output each and so are units of the integer region."""

from __future__ import annotations

from collections.abc import Collection, Sequence

import numpy as np
import onnx_graphsurgeon as gs

from optc.models.model import Model
from optc.passes.canonicalize.edit import all_names
from optc.passes.quantize.region import Region


def slice_splits(model: Model, region: Region) -> bool:
    """Replace each Split of what `region` codes or makes, where its sizes are known; whether there was one.

    Needs opset 13, where the bounds of a Slice are inputs.
    """
    coded = {id(t) for t in region.coded} | {*region.producers}
    splits = [(n, sizes) for n in model.view.nodes if (sizes := _sizes(n)) and id(n.inputs[0]) in coded]
    if not splits:
        return False
    graph = model.graph
    names = all_names(graph)
    slices = {id(node): _slices(node, sizes, names) for node, sizes in splits}
    graph.nodes = [new for node in graph.nodes for new in slices.get(id(node), [node])]
    for node, _ in splits:
        node.inputs.clear()
        node.outputs.clear()
    return True


def _sizes(node: gs.Node) -> list[int] | None:
    """The sizes of a Split's outputs; None of other nodes, and where they are not known."""
    if node.op != "Split" or node.domain not in (None, "", "ai.onnx"):
        return None
    if len(node.inputs) > 1 and not node.inputs[1].is_empty():
        given = node.inputs[1]
        return [int(v) for v in given.values] if isinstance(given, gs.Constant) else None
    shape, axis = node.inputs[0].shape, int(node.attrs.get("axis", 0))
    if not shape or not isinstance(shape[axis], int):
        return None
    count = len(node.outputs)
    each = -(-shape[axis] // count)
    return [each] * (count - 1) + [shape[axis] - each * (count - 1)]


def _slices(node: gs.Node, sizes: Sequence[int], names: Collection[str]) -> list[gs.Node]:
    """A Slice for each output that is one."""
    source, axis = node.inputs[0], int(node.attrs.get("axis", 0))
    edges = np.cumsum([0, *sizes])
    found: list[gs.Node] = []
    for number, output in enumerate(list(node.outputs)):
        if output.is_empty():
            continue
        bounds = {"starts": edges[number], "ends": edges[number + 1], "axes": axis}
        constants = [
            gs.Constant(_free(f"{output.name}_{name}", names), np.array([value], np.int64))
            for name, value in bounds.items()
        ]
        name = _free(f"{output.name}_Slice", names)
        output.inputs.clear()
        found.append(gs.Node("Slice", name, inputs=[source, *constants], outputs=[output]))
    return found


def _free(wanted: str, names: Collection[str]) -> str:
    """`wanted`, with underscores behind it where the graph has that name."""
    while wanted in names:
        wanted += "_"
    return wanted
