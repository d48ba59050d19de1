"""Pooling as stages."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from optc.passes.quantize.integer.ops import (
    AveragePool,
    Clamped,
    MaxPool,
)
from optc.passes.quantize.integer.sums import exponents
from optc.passes.quantize.integer.windows import counts
from optc.passes.quantize.reference import Rounding, rounded
from optc.targets.vta.compiler.align import Aligned
from optc.targets.vta.compiler.build_layers import or_refused, window_axes
from optc.targets.vta.compiler.builder import REQUANTIZE, Builder, Refused
from optc.targets.vta.compiler.linear import diagonal
from optc.targets.vta.compiler.requantize import (
    requantization,
    shift_left,
)
from optc.targets.vta.compiler.stages import (
    Accumulate,
    Axis,
    Combine,
    Immediate,
    Plane,
    Reset,
    Stage,
    Term,
)
from optc.targets.vta.isa import AluOp

Array = NDArray[Any]


_LARGEST_FACTOR = 127 * 128
"""Of a mean: two digits that are weights."""


def max_pool(b: Builder, op: MaxPool) -> Stage:
    """The source in a plane of its own, each tap of the window by a MAX."""
    b.check_code(op.code, op.inputs[0])
    source, out = b.layout(op.inputs[0], False), b.layout(op.output, False)
    y, x = window_axes(b, op.window, op.inputs[0])
    extent = source.extent(b.config)
    index, weights = diagonal(np.asarray(1), extent.blocks, b.config.block)
    rows, columns = source.sizes[2:]
    term = Term(op.inputs[0], extent, Axis(rows), Axis(columns), index, weights)
    steps = (
        Reset(1),
        Reset(),
        Immediate(AluOp.ADD, -128),
        Accumulate((term,), 1),
        Combine(AluOp.MAX, 1),
        b.write(op.output, out),
    )
    return Stage(op.output, out.extent(b.config), steps, (Plane(y, x),))


def average_pool(b: Builder, op: AveragePool) -> Stage:
    """The sum of the window times a factor, shifted: exact for every sum, or `Refused`."""
    b.check_code(op.code, op.inputs[0])
    source, out = b.layout(op.inputs[0], False), b.layout(op.output, False)
    rows, columns = source.sizes[2:]
    if op.window is None:
        y, x = Axis(rows, rows), Axis(columns, columns)
        count = rows * columns
    else:
        y, x = window_axes(b, op.window, op.inputs[0])
        n = counts(op.window, b.shapes[op.inputs[0]][2:], op.count_pads)
        if (n != n.reshape(-1)[0]).any():
            raise Refused("its divisor varies at the border")
        count = int(n.reshape(-1)[0])
    bits = exponents(np.asarray(np.float64(op.target.code.scale) / np.float64(op.code.scale)))
    if bits is None:
        raise Refused(f"its scales are not powers of two {REQUANTIZE}")
    taps = y.kernel * x.kernel
    factor, shift, add = _mean(count, taps, int(bits), op.target, b.rounding)
    extent = source.extent(b.config)
    bound, blocks = float(taps * 128 * factor), b.blocks(out)
    needed = or_refused(requantization(np.asarray(shift), op.target, "half_up", bound, blocks))
    needed = replace(needed, add=np.asarray(add))
    high, low = _digits(factor)
    terms: list[Term] = []
    taps_of = (y.kernel, x.kernel)
    for digit in (high, low):
        index, weights = diagonal(np.asarray(digit), extent.blocks, b.config.block, taps_of)
        terms.append(Term(op.inputs[0], extent, y, x, index, weights, kin="digits"))
    before = (Accumulate((terms[0],)), *shift_left(7)) if high else ()
    found = Aligned(before, (terms[1],) if low else (), needed)
    return b.finish(op, out, found, np.zeros(out.sizes[1], np.int64), op.target, 0)


def _digits(factor: int) -> tuple[int, int]:
    """`factor` as high * 2^7 + low, both int8."""
    if factor <= 127:
        return 0, factor
    high = (factor + 64) >> 7
    return high, factor - (high << 7)


def _mean(count: int, taps: int, bits: int, target: Clamped, rounding: Rounding) -> tuple[int, int, int]:
    """Factor, shift, and what to add before it: they give the codes of sum / (count * 2^bits) for all sums.

    The sums are those of `taps` codes. What is added is half, or what keeps an inexact factor from missing
    ties.
    """
    sums = np.arange(-128 * taps, 127 * taps + 1, dtype=np.int64)
    low, high = target.low - target.code.zero_point, target.high - target.code.zero_point
    wanted = np.clip(rounded(sums / (count * 2.0**bits), rounding), low, high).astype(np.int64)
    for shift in range(max(bits, 1), 31):
        factor = round(2.0 ** (shift - bits) / count)
        if factor == 0:
            continue
        if factor > _LARGEST_FACTOR or (128 * taps + 1) * factor + (1 << shift) >= 2**31:
            break
        least = ((wanted << shift) - sums * factor)[wanted > low].max(initial=-(2**30))
        most = ((wanted + 1 << shift) - 1 - sums * factor)[wanted < high].min(initial=2**30)
        if least <= most:
            return factor, shift, int(np.clip(1 << (shift - 1), least, most))
    raise Refused(f"no multiplier and shift gives the mean of {count} exactly")
