"""Layers with weights, and products of two activations, as stages."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
from numpy.typing import NDArray

from optc.passes.quantize.integer.ops import (
    Layer,
    Product,
    Shifted,
    ToAccumulator,
    Window,
)
from optc.passes.quantize.integer.windows import padding
from optc.targets.vta.compiler.align import Aligned
from optc.targets.vta.compiler.builder import REQUANTIZE, Builder, Refused
from optc.targets.vta.compiler.fold import Folded, fold
from optc.targets.vta.compiler.linear import convolution, every_block
from optc.targets.vta.compiler.requantize import (
    Requantization,
    requantization,
)
from optc.targets.vta.compiler.stages import (
    Axis,
    Stage,
    Term,
)
from optc.targets.vta.compiler.values import (
    Layout,
    Matrices,
    stack_layout,
)

Array = NDArray[Any]


_ENDINGS = {
    "Scaled": f"its scales are not powers of two {REQUANTIZE}",
    "Biased": "its bias is no integer of the accumulator's scale",
    "ToFloat": "its result is float",
}


def layer(b: Builder, op: Layer) -> Stage | None:
    """A layer; None where it only adds to a Sum, whose stage has it."""
    if isinstance(op.ending, ToAccumulator):
        linear_term(b, op)
        return None
    out = b.layout(op.output, op.window is None)
    return _ended(b, op, out, linear_term(b, op), op.bound, bias_of(b, op, out), count_macs(b, op))


def accumulator(b: Builder, op: Layer) -> Stage:
    """A layer's accumulators, for a Sum that is the host's. Raises `Refused`."""
    out = b.layout(op.output, op.window is None)
    bias, macs = bias_of(b, op, out), count_macs(b, op)
    return b.leaving(op, out, linear_term(b, op), op.bound, bias, macs, "its sum is the host's")


def product(b: Builder, op: Product) -> Stage:
    """MatMul of two activations: the host gives the second as weight blocks, for each image its own."""
    left, right = (b.shape(n) for n in op.inputs)
    for code, name in zip(op.codes, op.inputs, strict=True):
        b.check_code(code, name)
    if len(left) < 2 or len(right) < 2 or right[:-2] != left[:-2]:
        raise Refused("its operands are not two stacks of as many matrices")
    images, length = math.prod(right[:-2]), right[-2]
    if b.config.batch > 1 and images > 1:
        raise Refused("a BATCH of more than one multiplies all of its samples by the same matrix")
    source, out = b.laid_out(op.inputs[0], stack_layout), b.laid_out(op.output, stack_layout)
    form = Matrices(right)
    name = f"{op.inputs[1]} as weights"
    b.given[name] = op.inputs[1], form
    index, operand = every_block(name, form, b.config)
    term = Term(op.inputs[0], source.extent(b.config), Axis(1), Axis(left[-2]), index, operand)
    bias = np.zeros(out.sizes[1], np.int64)
    return _ended(b, op, out, term, 128 * 128 * length, bias, math.prod(left) * right[-1])


def _ended(
    b: Builder, op: Layer | Product, out: Layout, term: Term, bound: int, bias: Array, macs: int
) -> Stage:
    """Codes where a shift makes them, else accumulators that the host ends."""
    try:
        ending = op.ending
        if not isinstance(ending, Shifted):
            raise Refused(_ENDINGS[type(ending).__name__])
        found = requantization(ending.bits, ending.target, b.rounding, bound, b.blocks(out))
        needed = or_refused(found)
        return b.finish(op, out, Aligned((), (term,), needed), bias, ending.target, macs)
    except Refused as error:
        return b.leaving(op, out, term, bound, bias, macs, str(error))


def count_macs(b: Builder, op: Layer) -> int:
    """Multiply-accumulates of a layer."""
    if op.window is not None and op.window.transposed:
        return math.prod(b.shapes[op.inputs[0]]) * int(op.weight[:, 0].size // op.group)
    places = int(np.prod(b.shapes[op.output])) // int(op.weight.shape[0 if op.window else -1])
    return places * int(op.weight.size)


def linear_term(b: Builder, op: Layer) -> Term:
    """The layer without its bias."""
    if op.weight.dtype != np.int8 and not (op.weight.min() >= -128 and op.weight.max() <= 127):
        raise Refused("its weights are not int8")
    source = b.layout(op.inputs[0], op.window is None)
    b.check_code(op.code, op.inputs[0])
    block = b.config.block
    if op.window is None:
        if op.weight.ndim != 2:
            raise Refused("its weights are a stack of matrices")
        weight = op.weight.T[:, :, None, None]
        n, _, y, x = source.sizes
        axes = Axis(y), Axis(x)
    else:
        weight = op.weight if op.weight.ndim == 4 else op.weight[:, :, None]
        axes = window_axes(b, op.window, op.inputs[0])
        plain = op.group == 1 and len(op.window.kernel) == 2 and not op.window.transposed
        if op.inputs[0] in b.hosted and plain:
            found = fold(weight, op.window, source.shape, block)
            if found is not None:
                return _folded(b, op.inputs[0], *found)
    index, blocks = convolution(weight, op.group, block)
    return Term(op.inputs[0], source.extent(b.config), *axes, index, blocks)


def _folded(b: Builder, name: str, layout: Folded, weight: Array, axes: tuple[Axis, Axis]) -> Term:
    """A convolution of a value that the host folds."""
    known = [s for s, f in b.given.items() if f == (name, layout)]
    source = known[0] if known else f"{name} folded {len(b.given)}"
    b.given[source] = name, layout
    index, blocks = convolution(weight, 1, b.config.block)
    return Term(source, layout.extent(b.config), *axes, index, blocks)


def window_axes(b: Builder, window: Window, name: str) -> tuple[Axis, Axis]:
    """Rows and columns of a window over a value of one or two spatial axes."""
    rank = len(window.kernel)
    if rank > 2:
        raise Refused(f"its window has {rank} axes")
    sizes = b.shapes[name][2:]
    pads = padding(window, sizes)
    axes = [
        Axis(size, kernel, stride, dilation, before, window.transposed)
        for size, kernel, stride, dilation, (before, _) in zip(
            sizes, window.kernel, window.strides, window.dilations, pads, strict=True
        )
    ]
    return (axes[0], axes[1]) if rank == 2 else (Axis(1), axes[0])


def bias_of(b: Builder, op: Layer, out: Layout) -> Array:
    """int64, one a channel of the output."""
    channels = out.sizes[1]
    if op.bias is None:
        return np.zeros(channels, np.int64)
    return np.broadcast_to(np.asarray(op.bias, np.int64).reshape(-1), channels).astype(np.int64)


def or_refused(found: Requantization | str) -> Requantization:
    """What was found, or `Refused` with why nothing was."""
    if isinstance(found, str):
        raise Refused(found)
    return found
