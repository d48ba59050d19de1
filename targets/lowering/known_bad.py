"""Nodes that TVM 0.27 imports but gets wrong, or that it cannot hold: they run in ONNX Runtime instead.

Found by running ONNX's own node tests (benchmarks/node_tests.py) against ONNX Runtime.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import onnx

from optc.models import storage
from optc.targets.lowering.graph import Graph

Rule = Callable[[Graph, onnx.NodeProto], str | None]
"""The reason to refuse a node, or None."""

CONTROL_FLOW = frozenset({"If", "Loop", "Scan", "SequenceMap"})

DATA_DEPENDENT = frozenset({"NonZero", "Unique", "Compress", "NonMaxSuppression", "StringSplit"})


def refusals(graph: Graph) -> dict[int, str]:
    """Node index to the reason why TVM does not get it."""
    found: dict[int, str] = {}
    for index, node in enumerate(graph.nodes):
        reason = refusal(graph, node)
        if reason is not None:
            found[index] = reason
    return found


def refusal(graph: Graph, node: onnx.NodeProto) -> str | None:
    """Why `node` runs in ONNX Runtime before TVM's importer is even asked, or None."""
    if node.domain not in ("", "ai.onnx"):
        return f"TVM's importer knows no operator of the domain {node.domain}"
    if node.op_type in CONTROL_FLOW:
        return "control flow runs in ONNX Runtime"
    if node.op_type in DATA_DEPENDENT:
        return "the shape of its output depends on data"
    rule = RULES.get(node.op_type)
    return (rule(graph, node) if rule is not None else None) or _empty(graph, node)


def _attribute(node: onnx.NodeProto, name: str, default: Any) -> Any:
    for attribute in node.attribute:
        if attribute.name == name:
            return onnx.helper.get_attribute_value(attribute)
    return default


def _element(graph: Graph, name: str) -> int:
    return graph.types[name].element if name in graph.types else 0


def _empty(graph: Graph, node: onnx.NodeProto) -> str | None:
    for name in (*node.input, *node.output):
        if name in graph.types and 0 in graph.types[name].dims:
            return "TVM cannot store a tensor without elements"
    return None


def _training(graph: Graph, node: onnx.NodeProto) -> str | None:
    training = _attribute(node, "training_mode", 0) or len([o for o in node.output if o]) > 1
    return "TVM has no training mode of it" if training else None


def _shift(graph: Graph, node: onnx.NodeProto) -> str | None:
    tensor = graph.constants.get(node.input[1])
    if tensor is not None and not storage.is_external(tensor):
        amount = onnx.numpy_helper.to_array(tensor)
        if ((amount >= 0) & (amount < 8 * amount.itemsize)).all():
            return None
    return "TVM differs where the shift is negative or no less than the width"


def _reduce_extreme(graph: Graph, node: onnx.NodeProto) -> str | None:
    floats = _element(graph, node.input[0]) in _FLOATS
    return "TVM starts from the largest finite number, so infinities are lost" if floats else None


def _is_inf(graph: Graph, node: onnx.NodeProto) -> str | None:
    both = _attribute(node, "detect_negative", 1) and _attribute(node, "detect_positive", 1)
    return None if both else "TVM cannot tell the signs of infinity apart"


def _is_nan(graph: Graph, node: onnx.NodeProto) -> str | None:
    return "TVM simplifies x != x to false, which drops the test for NaN"


def _equal(graph: Graph, node: onnx.NodeProto) -> str | None:
    return _is_nan(graph, node) if node.input[0] == node.input[1] else None


def _mod(graph: Graph, node: onnx.NodeProto) -> str | None:
    floats = _element(graph, node.output[0]) in _FLOATS and not _attribute(node, "fmod", 0)
    return "TVM differs at infinities and signs" if floats else None


def _resize(graph: Graph, node: onnx.NodeProto) -> str | None:
    if _attribute(node, "antialias", 0):
        return "TVM ignores antialias"
    found = graph.types.get(node.input[0])
    scales = graph.constants.get(node.input[2]) if len(node.input) > 2 else None
    if found is None or scales is None or not scales.dims or scales.dims[0] != len(found.dims):
        return None
    for dim, scale in zip(found.dims, onnx.numpy_helper.to_array(scales), strict=True):
        whole = float(scale).is_integer() or (isinstance(dim, int) and float(dim * scale).is_integer())
        if not whole:
            return "TVM scales by the ratio of the rounded sizes, not by the scale given"
    return None


def _space_to_depth(graph: Graph, node: onnx.NodeProto) -> str | None:
    return "TVM ignores mode=CRD" if _attribute(node, "mode", b"DCR") == b"CRD" else None


_FLOATS = (onnx.TensorProto.FLOAT, onnx.TensorProto.DOUBLE, onnx.TensorProto.FLOAT16)

RULES: dict[str, Rule] = {
    "BatchNormalization": _training,
    "BitShift": _shift,
    "Equal": _equal,
    "IsInf": _is_inf,
    "IsNaN": _is_nan,
    "Mod": _mod,
    "ReduceMax": _reduce_extreme,
    "ReduceMin": _reduce_extreme,
    "Resize": _resize,
    "SpaceToDepth": _space_to_depth,
}
"""Operator to the rule that says when TVM gets it wrong."""
