"""Integer operations as stages; what VTA does not take gets a reason."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from optc.passes.quantize.integer.ops import (
    AveragePool,
    Channelwise,
    Concat,
    Layer,
    MaxPool,
    Move,
    Op,
    Product,
    Sum,
)
from optc.targets.vta.compiler.build_layers import layer, product
from optc.targets.vta.compiler.build_moves import concat, move
from optc.targets.vta.compiler.build_pools import average_pool, max_pool
from optc.targets.vta.compiler.build_sums import channelwise, sum_of
from optc.targets.vta.compiler.builder import Builder, Refused
from optc.targets.vta.compiler.stages import Stage

_STAGES: dict[type[Op], Callable[[Builder, Any], Stage | None]] = {
    Layer: layer,
    Product: product,
    Sum: sum_of,
    MaxPool: max_pool,
    AveragePool: average_pool,
    Concat: concat,
    Channelwise: channelwise,
    Move: move,
}


def stage_of(builder: Builder, op: Op) -> Stage | None:
    """The stage of `op`; None where none is needed, or that of a Sum does it. Raises `Refused`."""
    if type(op) not in _STAGES:
        raise Refused(f"VTA has no form of {type(op).__name__}")
    return _STAGES[type(op)](builder, op)
