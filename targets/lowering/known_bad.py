"""Nodes that TVM 0.27 imports but gets wrong, or that it cannot hold: they run in ONNX Runtime instead.

Found by running ONNX's own node tests (benchmarks/node_tests.py) against ONNX Runtime.
"""

from __future__ import annotations

from collections.abc import Callable

import onnx

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
    return rule(graph, node) if rule is not None else None


RULES: dict[str, Rule] = {}
