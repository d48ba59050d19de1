"""Q, DQ, sums and concatenations: one expression for each element. Imports TVM: load it late."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from tvm import relax, te

from optc.passes.quantize.integer.ops import Clamped, Concat, Dequantize, Quantize, Sum, Term
from optc.passes.quantize.integer.sums import ROOM, shifts
from optc.passes.quantize.reference import Rounding
from optc.passes.quantize.scales import Code
from optc.targets.lowering.integer.endings import codes, product64, rounded, shift_constants, shifted
from optc.targets.lowering.integer.tensors import at, broadcast, constants


def emit_quantize(builder: Any, op: Quantize, x: Any, rounding: Rounding) -> Any:
    """Codes of float32 values."""
    target = Clamped(op.code, *op.code.limits)

    def quantize(x: Any, given: dict[str, Any]) -> Any:
        def element(*index: Any) -> Any:
            return codes(rounded(x[index] / at(given["scale"], index), rounding), target)

        return te.compute(x.shape, element, name="codes")

    given = constants(scale=np.asarray(op.code.scale))
    return builder.emit_te(quantize, x, given, primfunc_name_hint="quantize")


def emit_dequantize(builder: Any, op: Dequantize, x: Any) -> Any:
    """Float32 values of codes."""

    def dequantize(x: Any, given: dict[str, Any]) -> Any:
        def element(*index: Any) -> Any:
            integer = x[index].astype("int32") - op.code.zero_point
            return integer.astype("float32") * at(given["scale"], index)

        return te.compute(x.shape, element, name="values")

    given = constants(scale=np.asarray(op.code.scale))
    return builder.emit_te(dequantize, x, given, primfunc_name_hint="dequantize")


def emit_sum(builder: Any, op: Sum, values: Sequence[Any], rounding: Rounding) -> Any:
    """Codes of a sum of codes and accumulators: by shifts where the scales allow, else in float64."""
    found = shifts(op.terms, op.target.code)
    given = constants(**{f"scale{i}": term.scale for i, term in enumerate(op.terms)})
    given |= constants(divisor=np.asarray(op.target.code.scale, np.float64))
    if found is not None:
        given = constants(**{f"left{i}": left.astype(np.int32) for i, left in enumerate(found.lefts)})
        given |= shift_constants(found.bits)

    def total(values: list[Any], given: dict[str, Any]) -> Any:
        def element(*index: Any) -> Any:
            integers = [_integer(v, t, index) for v, t in zip(values, op.terms, strict=True)]
            if found is not None:
                acc = _added(i << at(given[f"left{n}"], index) for n, i in enumerate(integers))
                return shifted(acc, found.bits, ROOM, op.target, rounding, given, index)
            scaled = _added(
                product64(integer, at(given[f"scale{n}"], index), term.bound)
                for n, (integer, term) in enumerate(zip(integers, op.terms, strict=True))
            )
            return codes(rounded(scaled / at(given["divisor"], index), rounding), op.target)

        return te.compute(broadcast(*(v.shape for v in values)), element, name="codes")

    return builder.emit_te(total, list(values), given, primfunc_name_hint="integer_sum")


def _integer(value: Any, term: Term, index: Sequence[Any]) -> Any:
    return at(value, index).astype("int32") - term.zero_point


def _added(parts: Any) -> Any:
    """The sum from left to right."""
    total, *rest = parts
    for part in rest:
        total = total + part
    return total


def emit_concat(builder: Any, op: Concat, values: Sequence[Any], rounding: Rounding) -> Any:
    """Codes side by side, each brought to the code of the result first."""
    target = Clamped(op.code, *op.code.limits)
    parts = [
        value if code == op.code else emit_sum(builder, _alone(op, code, target), [value], rounding)
        for value, code in zip(values, op.codes, strict=True)
    ]
    return builder.emit(relax.op.concat(parts, op.axis))


def _alone(op: Concat, code: Code, target: Clamped) -> Sum:
    """An operand as a sum of one term."""
    term = Term(np.asarray(code.scale), code.zero_point, code.reach)
    return Sum(op.nodes, (), op.output, (term,), target)
