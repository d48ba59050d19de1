"""One operation of an integer program as one or a few Relax calls. Imports TVM: load it late."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from optc.passes.quantize.integer.ops import (
    AveragePool,
    Channelwise,
    Concat,
    Dequantize,
    Layer,
    MaxPool,
    Op,
    Product,
    Quantize,
    Sum,
)
from optc.passes.quantize.reference import Rounding
from optc.passes.quantize.scales import INT32_MAX
from optc.targets.lowering.integer.channelwise import emit_channelwise
from optc.targets.lowering.integer.layers import emit_ended, emit_layer, emit_product
from optc.targets.lowering.integer.pools import emit_average_pool, emit_max_pool
from optc.targets.lowering.integer.sums import emit_concat, emit_dequantize, emit_quantize, emit_sum


def emit_ending(builder: Any, op: Layer | Product, acc: Any, rounding: Rounding) -> Any:
    """The Relax value of `op.output`, given the int32 sums: the rest of what `emit` does."""
    return emit_ended(builder, op.ending, op.bound if isinstance(op, Layer) else INT32_MAX, acc, rounding)


def emit(builder: Any, op: Op, values: Mapping[str, Any], rounding: Rounding) -> Any:
    """The Relax value of `op.output`, given those of its inputs; a Move is the importer's, not this one's."""
    inputs = [values[name] for name in op.inputs]
    match op:
        case Layer():
            return emit_layer(builder, op, inputs[0], rounding)
        case Product():
            return emit_product(builder, op, inputs[0], inputs[1], rounding)
        case Sum():
            return emit_sum(builder, op, inputs, rounding)
        case Channelwise():
            return emit_channelwise(builder, op, inputs[0])
        case Concat():
            return emit_concat(builder, op, inputs, rounding)
        case MaxPool():
            return emit_max_pool(builder, op, inputs[0])
        case AveragePool():
            return emit_average_pool(builder, op, inputs[0], rounding)
        case Quantize():
            return emit_quantize(builder, op, inputs[0], rounding)
        case Dequantize():
            return emit_dequantize(builder, op, inputs[0])
    raise TypeError(f"unknown operation {type(op).__name__}")
