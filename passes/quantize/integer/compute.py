"""The operations of an integer program in numpy, exactly as docs/semantics.md says."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from optc.models.errors import InputError
from optc.passes.quantize import reference
from optc.passes.quantize.integer import ops
from optc.passes.quantize.integer.moves import moved
from optc.passes.quantize.integer.ops import Clamped, Op
from optc.passes.quantize.integer.windows import counts, plain, slid, spread
from optc.passes.quantize.reference import Rounding
from optc.passes.quantize.scales import INT32_MAX

Array = NDArray[Any]

_EXACT_IN_FLOAT32 = 2**24


def compute(op: Op, values: Mapping[str, Array], rounding: Rounding) -> Array:
    """What `op` writes, given the program's values: codes, int32 accumulators or float32."""
    return _COMPUTE[type(op)](op, values, rounding)


def _quantize(op: ops.Quantize, values: Mapping[str, Array], rounding: Rounding) -> Array:
    return reference.quantize(values[op.inputs[0]], op.code, rounding)


def _dequantize(op: ops.Dequantize, values: Mapping[str, Array], rounding: Rounding) -> Array:
    return op.code.dequantize(values[op.inputs[0]])


def _layer(op: ops.Layer, values: Mapping[str, Array], rounding: Rounding) -> Array:
    x = values[op.inputs[0]]
    exact: np.dtype[Any] = np.dtype(np.float32 if op.bound < _EXACT_IN_FLOAT32 else np.float64)
    centered = np.asarray(x.astype(exact) - op.code.zero_point)
    weight = op.weight.astype(exact)
    product = np.matmul(centered, weight) if op.window is None else _convolved(op, centered, weight)
    acc = np.asarray(product).astype(np.int32)
    return ended(acc if op.bias is None else acc + op.bias, op.ending, rounding)


def _convolved(op: ops.Layer, x: Array, weight: Array) -> Array:
    """The convolution of `x` [n, g * ci, ...] by `weight` [g * co, ci, ...], sample by sample."""
    if not len(x):
        return _convolved(op, np.zeros((1, *x.shape[1:]), x.dtype), weight)[:0]
    window = op.window
    assert window is not None
    if window.transposed:
        x, weight = spread(x, window, 0), np.flip(weight, tuple(range(2, weight.ndim)))
        window = plain(window)
    kernels = weight.reshape(op.group, weight.shape[0] // op.group, -1)
    results: list[Array] = []
    for sample in x:
        view = slid(sample[None], window, 0)[0]
        rank = len(window.kernel)
        size = view.shape[1 : 1 + rank]
        columns = view.transpose(0, *range(1 + rank, 1 + 2 * rank), *range(1, 1 + rank))
        columns = columns.reshape(op.group, kernels.shape[2], -1)
        results.append(np.matmul(kernels, columns).reshape(weight.shape[0], *size))
    return np.stack(results)


def _product(op: ops.Product, values: Mapping[str, Array], rounding: Rounding) -> Array:
    left, right = (
        values[name].astype(np.float64) - code.zero_point
        for name, code in zip(op.inputs, op.codes, strict=True)
    )
    acc = np.asarray(np.matmul(left, right))
    if acc.size and np.abs(acc).max() > INT32_MAX:
        raise InputError(f"'{op.output}': the accumulator of a MatMul overflows int32", op.nodes[0])
    return ended(acc.astype(np.int32), op.ending, rounding)


def ended(acc: Array, ending: ops.Ending, rounding: Rounding) -> Array:
    """What becomes of int32 accumulators; a sum's stay as they are."""
    match ending:
        case ops.Scaled(target, multiplier):
            return _clipped(reference.requantize(acc, multiplier, target.code, rounding), target)
        case ops.Shifted(target, bits):
            return _clipped(reference.shift(acc, bits, target.code, rounding), target)
        case ops.Biased(target, scale, bias):
            terms = [(scale, acc), (np.ones((), np.float32), bias)]
            return _clipped(reference.requantize_sum(terms, target.code, rounding), target)
        case ops.ToAccumulator():
            return acc
        case ops.ToFloat(scale, None):
            return np.asarray(acc.astype(np.float32) * scale)
        case ops.ToFloat(scale, bias):
            return np.asarray(acc * scale.astype(np.float64) + bias).astype(np.float32)
    raise TypeError(f"unknown ending {ending}")


def _sum(op: ops.Sum, values: Mapping[str, Array], rounding: Rounding) -> Array:
    terms = [
        (term.scale, values[name].astype(np.int64) - term.zero_point)
        for name, term in zip(op.inputs, op.terms, strict=True)
    ]
    return _clipped(reference.requantize_sum(terms, op.target.code, rounding), op.target)


def _channelwise(op: ops.Channelwise, values: Mapping[str, Array], rounding: Rounding) -> Array:
    integers = values[op.inputs[0]].astype(np.int32) - op.code.zero_point
    if op.add is not None:
        integers = integers + op.add
    bounded = np.minimum(np.maximum(integers, op.low), op.high)
    return np.asarray(bounded + op.code.zero_point, op.code.dtype)


def _max_pool(op: ops.MaxPool, values: Mapping[str, Array], rounding: Rounding) -> Array:
    windows = slid(values[op.inputs[0]], op.window, op.code.limits[0])
    return np.asarray(windows.max(axis=_kernel_axes(windows)))


def _average_pool(op: ops.AveragePool, values: Mapping[str, Array], rounding: Rounding) -> Array:
    centered = values[op.inputs[0]].astype(np.int64) - op.code.zero_point
    if op.window is None:
        axes = tuple(range(2, centered.ndim))
        total = centered.sum(axis=axes, keepdims=True)
        count = np.asarray(int(np.prod(centered.shape[2:])))
    else:
        windows = slid(centered, op.window, 0)
        total = windows.sum(axis=_kernel_axes(windows))
        count = counts(op.window, centered.shape[2:], op.count_pads)
    terms = [(np.asarray(op.code.scale), total)]
    return _clipped(reference.requantize_sum(terms, op.target.code, rounding, count), op.target)


def _kernel_axes(windows: Array) -> tuple[int, ...]:
    """The last axes of [n, c, *output, *kernel]."""
    rank = (windows.ndim - 2) // 2
    return tuple(range(2 + rank, 2 + 2 * rank))


def _move(op: ops.Move, values: Mapping[str, Array], rounding: Rounding) -> Array:
    given = [op.constants.get(n, values.get(n)) if n else None for n in op.parameters]
    return moved(op.op, values[op.inputs[0]], op.attributes, given)


def _concat(op: ops.Concat, values: Mapping[str, Array], rounding: Rounding) -> Array:
    parts: list[Array] = []
    for name, code in zip(op.inputs, op.codes, strict=True):
        part = values[name]
        if code != op.code:
            integers = part.astype(np.int64) - code.zero_point
            part = reference.requantize_sum([(np.asarray(code.scale), integers)], op.code, rounding)
        parts.append(part)
    return np.concatenate(parts, axis=op.axis)


def _clipped(codes: Array, target: Clamped) -> Array:
    least, most = np.array([target.low, target.high], target.code.dtype)
    return np.asarray(np.minimum(np.maximum(codes, least), most))


_COMPUTE: dict[type[Op], Callable[[Any, Mapping[str, Array], Rounding], Array]] = {
    ops.Quantize: _quantize,
    ops.Dequantize: _dequantize,
    ops.Layer: _layer,
    ops.Product: _product,
    ops.Sum: _sum,
    ops.Channelwise: _channelwise,
    ops.MaxPool: _max_pool,
    ops.AveragePool: _average_pool,
    ops.Move: _move,
    ops.Concat: _concat,
}
