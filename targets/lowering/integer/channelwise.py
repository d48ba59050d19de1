"""Add, Max and Min of codes by constants: one expression for each element. Imports TVM: load it late."""

from __future__ import annotations

from typing import Any

from tvm import te

from optc.passes.quantize.integer.ops import Channelwise
from optc.targets.lowering.integer.tensors import at, broadcast, constants


def emit_channelwise(builder: Any, op: Channelwise, x: Any) -> Any:
    """Codes plus a constant, within bounds, channel by channel."""
    zero, dtype = op.code.zero_point, str(op.code.dtype)

    def channelwise(x: Any, given: dict[str, Any]) -> Any:
        def element(*index: Any) -> Any:
            integer = at(x, index).astype("int32") - zero
            if "add" in given:
                integer = integer + at(given["add"], index)
            bounded = te.min(te.max(integer, at(given["low"], index)), at(given["high"], index))
            return (bounded + zero).astype(dtype)

        return te.compute(broadcast(x.shape, *(g.shape for g in given.values())), element, name="codes")

    given = constants(add=op.add, low=op.low, high=op.high)
    return builder.emit_te(channelwise, x, given, primfunc_name_hint="integer_channelwise")
