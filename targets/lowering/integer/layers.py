"""Layers and products of activations as loops over codes. Imports TVM: load it late."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray
from tvm import te

from optc.passes.quantize.integer.ops import Ending, Layer, Product, ToAccumulator
from optc.passes.quantize.integer.windows import plain
from optc.passes.quantize.reference import Rounding
from optc.passes.quantize.scales import INT32_MAX
from optc.targets.lowering.integer.endings import ended, ending_constants
from optc.targets.lowering.integer.tensors import (
    at,
    broadcast,
    constants,
    is_one,
    padded,
    spatial,
    spread_input,
    under,
)

Array = NDArray[Any]


_LANES = 16
"""From so many channels on, they are the inner loop, since a vector of their weights lies side by side."""


def emit_layer(builder: Any, op: Layer, x: Any, rounding: Rounding) -> Any:
    """A convolution, or a MatMul with weights, and its ending."""
    inside, bias = folded_zero_point(op)
    last = op.window is not None and op.group == 1 and op.weight.shape[0] >= _LANES
    turned = op.window is not None and op.window.transposed
    weight = np.flip(op.weight, tuple(range(2, op.weight.ndim))) if turned else op.weight
    weight = np.moveaxis(weight, 0, -1) if last else weight
    given = constants(weight=weight, bias=bias) | ending_constants(op.ending)

    def layer(x: Any, given: dict[str, Any]) -> Any:
        acc = _accumulators(op, x, given["weight"], inside, last)
        shape = [acc.shape[0], acc.shape[-1], *acc.shape[1:-1]] if last else acc.shape

        def element(*index: Any) -> Any:
            total = acc[(index[0], *index[2:], index[1])] if last else acc[index]
            if bias is not None:
                total = total + at(given["bias"], index)
            return ended(total, op.ending, op.bound, rounding, given, index)

        return te.compute(shape, element, name="codes")

    hint = "integer_matmul" if op.window is None else "integer_conv"
    return builder.emit_te(layer, x, given, primfunc_name_hint=hint)


def emit_ended(builder: Any, ending: Ending, bound: int, acc: Any, rounding: Rounding) -> Any:
    """An ending by itself, of int32 sums that something else computed; no |acc| is above `bound`."""
    if isinstance(ending, ToAccumulator):
        return acc

    def end(acc: Any, given: dict[str, Any]) -> Any:
        def element(*index: Any) -> Any:
            return ended(acc[index], ending, bound, rounding, given, index)

        return te.compute(acc.shape, element, name="codes")

    return builder.emit_te(end, acc, ending_constants(ending), primfunc_name_hint="integer_ending")


def folded_zero_point(op: Layer) -> tuple[int, Array | None]:
    """The zero point that is subtracted from each code, and the int32 bias.

    The first is 0 where all of it goes into the bias: `sum((q - z) w) + b = sum(q w) + (b - z sum(w))`,
    unless a partial sum could pass int32.
    """
    zero = op.code.zero_point
    if zero == 0 or (op.window is None and op.weight.ndim > 2):
        return zero, op.bias
    weight = op.weight.astype(np.int64)
    bias = np.zeros((), np.int64) if op.bias is None else op.bias.astype(np.int64)
    sums, reach = (_channel_sums(op, w) for w in (weight, np.abs(weight)))
    folded = np.asarray(bias - zero * sums)
    largest = max(abs(limit) for limit in op.code.limits)
    if (largest * reach + np.abs(folded)).max() > INT32_MAX:
        return zero, op.bias
    return 0, folded.astype(np.int32)


def _channel_sums(op: Layer, weight: Array) -> Array:
    """Sums over all that feeds a channel, as they broadcast against the accumulator."""
    if op.window is None:
        return np.asarray(weight.sum(axis=0))
    return np.asarray(weight.sum(axis=tuple(range(1, weight.ndim)), keepdims=True)[:, 0])


def _accumulators(op: Layer, x: Any, weight: Any, zero: int, last: bool) -> Any:
    """int32 sums of products, of a convolution with the channels `last` or second."""
    window = op.window
    if window is None:
        return _matmul(x, weight, (zero, 0))
    if window.transposed:
        source, window = spread_input(x, window, op.code.zero_point), plain(window)
    else:
        source = padded(x, window, op.code.zero_point)
    outputs, inputs, *kernel = (int(d) for d in op.weight.shape)
    channel = te.reduce_axis((0, inputs), "ci")
    offsets = [te.reduce_axis((0, k), f"k{i}") for i, k in enumerate(kernel)]

    def product(n: Any, c: Any, position: Sequence[Any]) -> Any:
        first = te.indexdiv(c, outputs // op.group) * inputs if op.group > 1 else 0
        code = source[(n, first + channel, *under(window, position, offsets))]
        factor = weight[(channel, *offsets, c) if last else (c, channel, *offsets)]
        products = (code.astype("int32") - zero) * factor.astype("int32")
        return te.sum(products, axis=[channel, *offsets])

    sizes = spatial(x, op.window or window)
    if last:
        shape = [x.shape[0], *sizes, outputs]
        return te.compute(shape, lambda n, *at: product(n, at[-1], at[:-1]), name="acc")
    return te.compute([x.shape[0], outputs, *sizes], lambda n, c, *at: product(n, c, at), name="acc")


def emit_product(builder: Any, op: Product, left: Any, right: Any, rounding: Rounding) -> Any:
    """A MatMul of two activations and its ending."""

    def product(left: Any, right: Any, given: dict[str, Any]) -> Any:
        acc = _matmul(left, right, (op.codes[0].zero_point, op.codes[1].zero_point))
        return te.compute(
            acc.shape,
            lambda *index: ended(acc[index], op.ending, INT32_MAX, rounding, given, index),
            name="codes",
        )

    given = ending_constants(op.ending)
    return builder.emit_te(product, left, right, given, primfunc_name_hint="integer_product")


def _matmul(left: Any, right: Any, zeros: tuple[int, int]) -> Any:
    """int32 product of codes less their zero points; shapes as in `numpy.matmul`."""
    rows, columns = list(left.shape[-2:-1]), list(right.shape[-1:]) if len(right.shape) > 1 else []
    batch = broadcast(left.shape[:-2], right.shape[:-2])
    length = te.reduce_axis((0, left.shape[-1]), "k")

    def element(*index: Any) -> Any:
        outer = index[: len(batch)]
        row = index[len(batch) : len(batch) + len(rows)]
        column = index[len(batch) + len(rows) :]
        a = _inside(left, outer, (*row, length)).astype("int32") - zeros[0]
        b = _inside(right, outer, (length, *column)).astype("int32") - zeros[1]
        return te.sum(a * b, axis=length)

    return te.compute([*batch, *rows, *columns], element, name="acc")


def _inside(tensor: Any, outer: Any, inner: Any) -> Any:
    """An element of a batch of matrices: `outer` broadcasts, `inner` does not."""
    count = len(tensor.shape) - len(inner)
    batch = list(zip(tensor.shape[:count], outer[len(outer) - count :], strict=True))
    return tensor[(*(0 if is_one(size) else i for size, i in batch), *inner)]
