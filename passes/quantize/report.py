"""What the report of `quantize` says: which nodes become integers, and which stay float and why."""

from __future__ import annotations

from collections import Counter
from typing import Any

import onnx_graphsurgeon as gs

from optc.passes.base import Context
from optc.passes.quantize.region import Region


def report(region: Region, context: Context) -> None:
    """Tell what becomes integer, and what does not."""
    for node, reason in region.left:
        context.decline(node, reason)
    context.facts.update(_facts(region))


def _facts(region: Region) -> dict[str, Any]:
    """Nodes of the region and nodes left float, by operator; how many values are coded."""

    def count(nodes: list[gs.Node]) -> dict[str, int]:
        return dict(sorted(Counter(str(n.op) for n in nodes).items()))

    return {
        "integer": count([n for u in region.units for n in u.nodes]),
        "float": count([node for node, _ in region.left]),
        "coded_values": len(region.coded),
    }
