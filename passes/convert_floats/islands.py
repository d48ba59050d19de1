"""Groups of nodes that would become small together, and whether that is worth its Casts."""

from __future__ import annotations

from collections.abc import Callable, Iterator

import onnx_graphsurgeon as gs

from optc.passes.convert_floats.small import Plan
from optc.passes.convert_floats.values import Values

LAYERS = {"Conv", "ConvTranspose", "Einsum", "Gemm", "MatMul", "Attention", "GRU", "LSTM", "RNN"}
"""Operators whose time is worth Casts around them."""

STORED = 1024
"""Values: a node that reads a constant of so many is worth Casts for the memory."""

REASON = "it stands between float32 values, away from all layers that change: only Casts would be added"


def drop_islands(
    plans: dict[int, Plan], values: Values, converted_end: Callable[[gs.Tensor], bool]
) -> list[gs.Node]:
    """Take out of `plans`, by id(node), groups that are not worth their Casts; the nodes taken out.

    A group is what hangs together by values that its nodes make. It stays if it holds a layer or much of
    weights, or needs no more Casts than it saves. `converted_end`: whether a value is an input or output of
    the graph that becomes small.
    """
    dropped: list[gs.Node] = []
    for group in _groups(plans):
        inside = {id(p.node) for p in group}
        if any(_worth(p, values) for p in group):
            continue
        costs = saves = 0
        for tensor in {id(t): t for p in group for t in _touched(p)}.values():
            small_end = converted_end(tensor)
            if any(id(n) in inside for n in tensor.inputs):
                outside = any(id(n) not in inside and n.op != "Cast" for n in tensor.outputs)
                costs += outside or (tensor.name in values.outputs and not small_end)
                saves += small_end
            elif values.constant(tensor) is None and not values.copied(tensor):
                costs += not small_end
                saves += small_end
        if costs > saves:
            dropped += [p.node for p in group]
            for p in group:
                del plans[id(p.node)]
    return dropped


def _worth(p: Plan, values: Values) -> bool:
    if p.node.op in LAYERS:
        return True
    constants = (values.constant(p.node.inputs[i]) for i in p.inputs)
    return any(c is not None and c.size >= STORED for c in constants)


def _touched(p: Plan) -> Iterator[gs.Tensor]:
    yield from (p.node.inputs[i] for i in p.inputs)
    yield from (p.node.outputs[i] for i in p.outputs)


def _groups(plans: dict[int, Plan]) -> list[list[Plan]]:
    """The plans by what hangs together, in order of each group's first node."""
    groups: list[list[Plan]] = []
    seen: set[int] = set()
    for start in plans.values():
        if id(start.node) in seen:
            continue
        seen.add(id(start.node))
        group = [start]
        for p in group:  # grows while it is walked
            for node in _linked(p, plans):
                if id(node) not in seen:
                    seen.add(id(node))
                    group.append(plans[id(node)])
        groups.append(group)
    return groups


def _linked(p: Plan, plans: dict[int, Plan]) -> Iterator[gs.Node]:
    """The nodes of `plans` that `p` passes a small value to or gets one from."""
    for tensor in (p.node.outputs[i] for i in p.outputs):
        yield from (n for n in tensor.outputs if id(n) in plans and _reads(plans[id(n)], tensor))
    for tensor in (p.node.inputs[i] for i in p.inputs):
        yield from (n for n in tensor.inputs if id(n) in plans and _makes(plans[id(n)], tensor))


def _reads(p: Plan, tensor: gs.Tensor) -> bool:
    return any(p.node.inputs[i] is tensor for i in p.inputs)


def _makes(p: Plan, tensor: gs.Tensor) -> bool:
    return any(p.node.outputs[i] is tensor for i in p.outputs)
