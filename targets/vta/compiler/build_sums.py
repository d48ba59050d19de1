"""Sums, and what is done channel by channel, as stages."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from optc.passes.quantize.integer.ops import (
    Channelwise,
    Op,
    Sum,
)
from optc.passes.quantize.integer.sums import exponents
from optc.targets.vta.compiler.align import Part, aligned
from optc.targets.vta.compiler.build_layers import bias_of, count_macs, linear_term, or_refused
from optc.targets.vta.compiler.builder import REQUANTIZE, Builder, Refused
from optc.targets.vta.compiler.linear import diagonal
from optc.targets.vta.compiler.requantize import (
    requantization,
    vector,
)
from optc.targets.vta.compiler.stages import (
    Accumulate,
    Axis,
    Immediate,
    Reset,
    Stage,
    Step,
    Term,
    Vector,
)
from optc.targets.vta.compiler.values import (
    Layout,
    matrix_layout,
)
from optc.targets.vta.isa import AluOp

Array = NDArray[Any]


def sum_of(b: Builder, op: Sum) -> Stage:
    """All terms in one accumulator, brought to the finest scale; layers that only add to it included."""
    layers = [b.layers[n] for n in op.inputs if n in b.layers]
    matrix = layers[0].window is None if layers else b.like([*op.inputs, op.output])
    out = b.layout(op.output, matrix)
    lefts, bits = _shifts(op, out.sizes[1])
    terms = zip(op.terms, lefts, strict=True)
    bound = float(np.max(sum(t.bound * np.ldexp(1.0, np.minimum(left, 64)) for t, left in terms)))
    if bound >= 2**30:
        raise Refused("its sum, brought to the finest scale, could overflow int32")
    needed = or_refused(requantization(bits, op.target, b.rounding, bound, b.blocks(out)))
    parts = [
        Part(_addend(b, name, op, out), left, term.bound)
        for name, term, left in zip(op.inputs, op.terms, lefts, strict=True)
    ]
    parts.sort(key=lambda p: len(p.term.index))  # small loads fit behind the passes of the tile before
    found = aligned(parts, bits, needed, b.rounding == "half_up", b.blocks(out))
    if isinstance(found, str):
        raise Refused(found)
    bias = np.zeros(out.sizes[1], np.int64)
    for name, left in zip(op.inputs, lefts, strict=True):
        if name in b.layers:
            bias += bias_of(b, b.layers[name], out) << left
    return b.finish(op, out, found, bias, op.target, sum(count_macs(b, layer) for layer in layers))


def _shifts(op: Sum, channels: int) -> tuple[list[Array], Array]:
    """Bits to the left of each term, to the finest scale, and back from it; one a channel."""
    scales = [exponents(t.scale) for t in op.terms]
    target = exponents(np.asarray(op.target.code.scale))
    known = [s for s in scales if s is not None]
    if target is None or len(known) < len(scales):
        raise Refused(f"its scales are not powers of two {REQUANTIZE}")
    for name, term in zip(op.inputs, op.terms, strict=True):
        if term.zero_point:
            raise Refused(
                f"'{name}' has the zero point {term.zero_point}; on VTA it has to be 0 {REQUANTIZE}"
            )
    finest = np.asarray(np.minimum.reduce(np.broadcast_arrays(*known)))
    return [_per_channel(e - finest, channels) for e in known], _per_channel(target - finest, channels)


def _addend(b: Builder, name: str, op: Sum, out: Layout) -> Term:
    """What a sum adds: a layer, or a value."""
    return linear_term(b, b.layers[name]) if name in b.layers else identity_term(b, name, op, out)


def identity_term(b: Builder, name: str, op: Op, out: Layout) -> Term:
    """A value as it is, spread over places where it has size 1."""
    shape = b.shapes.get(name)
    rank = len(b.shapes[op.output])
    if shape is None or len(shape) != rank:
        raise Refused(f"'{name}' has another rank than the sum")
    source = b.layout(name, out == matrix_layout(out.shape))
    n, c, y, x = source.sizes
    if c != out.sizes[1] or n not in (1, out.sizes[0]) or (n != out.sizes[0] and b.config.batch > 1):
        raise Refused(f"'{name}' is spread over channels or samples")
    axes = [
        Axis(size) if size == to else Axis(1, stride=0)
        for size, to in zip((y, x), out.sizes[2:], strict=True)
    ]
    extent = source.extent(b.config)
    index, weights = diagonal(np.asarray(1), extent.blocks, b.config.block)
    return Term(name, extent, axes[0], axes[1], index, weights)


def channelwise(b: Builder, op: Channelwise) -> Stage:
    """Codes brought into ACC, and what `channel_steps` does to them."""
    matrix = b.like([op.inputs[0], op.output])
    b.check_code(op.code, op.inputs[0])
    out = b.layout(op.output, matrix)
    if op.inputs[0] in b.hosted and 2 * out.sizes[1] <= b.config.block:
        raise Refused("the host has its input, of few channels, and packs its output for the next layer")
    term = identity_term(b, op.inputs[0], op, out)
    steps = (Reset(), Accumulate((term,)), *channel_steps(b, op))
    return Stage(op.output, out.extent(b.config), steps)


def channel_steps(b: Builder, op: Channelwise) -> tuple[Step, ...]:
    """From the input's codes in ACC to the output's, and out."""
    out = b.layouts[op.output]
    low, high = op.code.limits
    steps: list[Step] = []
    if op.add is not None:
        steps.append(_by_channel(b, AluOp.ADD, op.add, out))
    if op.low.max() > low or (op.add is not None and op.add.min() < 0):
        steps.append(_by_channel(b, AluOp.MAX, op.low, out))
    if op.high.min() < high or (op.add is not None and op.add.max() > 0):
        steps.append(_by_channel(b, AluOp.MIN, op.high, out))
    if not steps:
        steps.append(Immediate(AluOp.MAX, low))
    return (*steps, b.write(op.output, out))


def _by_channel(b: Builder, op: AluOp, values: Array, out: Layout) -> Step:
    flat = np.asarray(values).reshape(-1)
    if flat.size not in (1, out.sizes[1]):
        raise Refused("its constants are not one for each channel")
    if (flat == flat[0]).all():
        return Immediate(op, int(flat[0]))
    extent = out.extent(b.config)
    return Vector(op, vector(flat, extent.blocks, b.config.block))


def _per_channel(values: Array, channels: int) -> Array:
    flat = np.asarray(values, np.int64).reshape(-1)
    return np.broadcast_to(flat, channels).astype(np.int64)
