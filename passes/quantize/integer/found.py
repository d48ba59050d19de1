"""What a recognizer returns."""

from __future__ import annotations

from dataclasses import dataclass

import onnx_graphsurgeon as gs

from optc.passes.quantize.integer.ops import Op


@dataclass(frozen=True, eq=False)
class Found:
    """An operation (its `nodes` not yet filled in), the nodes it replaces, and the Qs and DQs it reads.

    A Q or DQ in `read` is replaced too, unless something else reads it.
    """

    op: Op
    nodes: list[gs.Node]
    read: list[gs.Node]
