"""Moves of data and Concat: an address where it can be, else a stage."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from optc.passes.quantize.integer.ops import (
    Concat,
    Move,
)
from optc.targets.vta.compiler.builder import Builder, Refused
from optc.targets.vta.compiler.linear import convolution, placement
from optc.targets.vta.compiler.stages import (
    Accumulate,
    Axis,
    Reset,
    Stage,
    Term,
)

Array = NDArray[Any]


def move(b: Builder, op: Move) -> Stage | None:
    """Nothing to do where the output's elements are the input's, from some block on."""
    if op.op == "Slice":
        return _slice(b, op)
    if not _plain(b, op):
        raise Refused(f"{op.op} moves values between lanes")
    matrix = b.like([op.inputs[0], op.output])
    source, out = b.layout(op.inputs[0], matrix), b.layout(op.output, matrix)
    if source.extent(b.config) != out.extent(b.config) or source.sizes[1] != out.sizes[1]:
        raise Refused(f"{op.op} moves values between lanes")
    b.aliases[op.output] = (op.inputs[0], 0)
    return None


def _slice(b: Builder, op: Move) -> Stage | None:
    """Whole blocks of channels where they are; else channels, rows and columns are picked."""
    matrix = b.like([op.inputs[0], op.output])
    source, out = b.layout(op.inputs[0], matrix), b.layout(op.output, matrix)
    cuts = sliced(op, source.shape)
    if isinstance(cuts, str):
        raise Refused(cuts)
    if 0 in cuts or out.sizes[0] != source.sizes[0]:
        raise Refused("it selects samples")
    c, y, x = (source.along(group, cuts) for group in (1, 2, 3))
    extent = source.extent(b.config)
    kept = out.sizes[2:] == source.sizes[2:]
    if kept and c[1] == 1 and c[0] % b.config.block == 0 and extent.images == 1:
        b.aliases[op.output] = (op.inputs[0], c[0] // b.config.block * extent.plane)
        return None
    chosen = np.eye(source.sizes[1], dtype=np.int8)[c[0] :: c[1]][: out.sizes[1]]
    index, weights = convolution(chosen[:, :, None, None], 1, b.config.block)
    axes = [
        Axis(size, stride=step, before=-first)
        for size, (first, step) in zip(source.sizes[2:], (y, x), strict=True)
    ]
    term = Term(op.inputs[0], extent, axes[0], axes[1], index, weights)
    steps = (Reset(), Accumulate((term,)), b.write(op.output, out))
    return Stage(op.output, out.extent(b.config), steps)


def _plain(b: Builder, op: Move) -> bool:
    """Whether no value changes its place among samples and channels, and there are no others."""
    shapes = (b.shape(op.inputs[0]), b.shape(op.output))
    return all(len(s) > 1 and s[0] == 1 and s[1] == int(np.prod(s)) for s in shapes)


def places(b: Builder, op: Concat) -> list[int] | None:
    """From which element of the output each operand would lie, if they are written there at once."""
    out = b.layouts[op.output]
    if out.extent(b.config).images > 1:
        return None
    at, found = 0, []
    for name in op.inputs:
        if at % b.config.block:
            return None
        found.append(at // b.config.block * out.extent(b.config).plane)
        at += b.layouts[name].sizes[1]
    return found


def concat(b: Builder, op: Concat) -> Stage:
    """Operands side by side; `places` says where they need not be moved for it."""
    rank = len(b.shapes[op.output])
    matrix = b.like([*op.inputs, op.output])
    out = b.layout(op.output, matrix)
    if op.axis % rank not in out.axes[1]:
        raise Refused("it is not along channels")
    terms: list[Term] = []
    first = 0
    for name, code in zip(op.inputs, op.codes, strict=True):
        b.check_code(code, name)
        if code != op.code:
            raise Refused("its operands have different codes")
        source = b.layout(name, matrix)
        index, weights = placement(source.sizes[1], first, b.config.block)
        rows, columns = source.sizes[2:]
        terms.append(Term(name, source.extent(b.config), Axis(rows), Axis(columns), index, weights))
        first += source.sizes[1]
    steps = (Reset(), Accumulate(tuple(terms)), b.write(op.output, out))
    return Stage(op.output, out.extent(b.config), steps)


def sliced(op: Move, shape: tuple[int, ...]) -> dict[int, tuple[int, int]] | str:
    """First index and step of each axis that a Slice cuts, or why that cannot be told."""
    starts, ends, axes, steps = [*op.parameters, "", ""][:4]
    values = [op.constants.get(n) for n in (starts, ends, axes, steps)]
    if any(v is None and name for v, name in zip(values, (starts, ends, axes, steps), strict=True)):
        return "its bounds are computed at run time"
    assert values[0] is not None and values[1] is not None
    count = len(values[0])
    which = range(count) if values[2] is None else [int(a) % len(shape) for a in values[2]]
    by = [1] * count if values[3] is None else [int(s) for s in values[3]]
    if min(by, default=1) < 1:
        return "it runs backwards"
    bounds = zip(values[0].tolist(), values[1].tolist(), by, which, strict=True)
    return {axis: (slice(a, b, s).indices(shape[axis])[0], s) for a, b, s, axis in bounds}
