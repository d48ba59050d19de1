"""Weights as 8- or 4-bit integers, one scale a channel or a block."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from onnx import TensorProto, helper

Array = NDArray[Any]

_SMALLEST = float(np.finfo(np.float32).tiny)

_SHARES = np.linspace(1.0, 0.5, 21)
"""How far `fitted` shrinks the range of a scale."""


@dataclass(frozen=True)
class Type:
    """Integers of `bits` bits: symmetric around 0 and signed, or unsigned with a zero point."""

    bits: int
    symmetric: bool

    @property
    def dtype(self) -> np.dtype[Any]:
        """int8, uint8, int4 or uint4; numpy holds the last two one a byte, a file two a byte."""
        types = {
            (8, True): TensorProto.INT8,
            (8, False): TensorProto.UINT8,
            (4, True): TensorProto.INT4,
            (4, False): TensorProto.UINT4,
        }
        return np.dtype(helper.tensor_dtype_to_np_dtype(types[self.bits, self.symmetric]))

    @property
    def limits(self) -> tuple[int, int]:
        """The smallest and the largest integer; the smallest signed one has no opposite, and is not used."""
        top = 2 ** (self.bits - self.symmetric) - 1
        return (-top if self.symmetric else 0), top


def packed(count: int, type: Type) -> int:
    """Bytes of that many integers in a file, where two of 4 bits share one."""
    return -(-count * type.bits // 8)


@dataclass(frozen=True)
class Grid:
    """Which weights share a scale: those of one place along `channel`, or with `block` that many neighbours
    along `summed`, the last block being shorter where the size is no multiple.

    Scales have the shape [channels], or the weight's with ceil(size / block) along `summed`: what
    DequantizeLinear takes (ONNX opset 21).
    """

    channel: int
    summed: int
    block: int | None

    def reduced(self, operation: np.ufunc, values: Array) -> Array:
        """`operation` (maximum, minimum, add) over the `values` that share a scale."""
        if self.block is None:
            others = tuple(a for a in range(values.ndim) if a != self.channel)
            return np.asarray(operation.reduce(values, axis=others))
        starts = np.arange(0, values.shape[self.summed], self.block)
        return np.asarray(operation.reduceat(values, starts, axis=self.summed))

    def spread(self, scales: Array, shape: tuple[int, ...]) -> Array:
        """What is given a scale, for each weight of `shape`."""
        if self.block is None:
            tall = [-1 if a == self.channel else 1 for a in range(len(shape))]
            return np.broadcast_to(scales.reshape(tall), shape)
        size = shape[self.summed]
        return np.repeat(scales, self.block, axis=self.summed).take(np.arange(size), axis=self.summed)

    def count(self, shape: tuple[int, ...]) -> int:
        """How many scales a weight of `shape` has."""
        if self.block is None:
            return shape[self.channel]
        return math.prod(shape) // shape[self.summed] * -(-shape[self.summed] // self.block)

    def nbytes(self, shape: tuple[int, ...], type: Type) -> int:
        """Bytes of a file that holds a weight of `shape`: integers, packed, scales and zero points."""
        zeros = 0 if type.symmetric else self.count(shape)
        return packed(math.prod(shape), type) + packed(zeros, type) + 4 * self.count(shape)


@dataclass(frozen=True)
class Scales:
    """`scale`: float32, positive; `zero`: the zero points, of the same shape, 0 where symmetric."""

    scale: Array
    zero: Array


def nearest_scales(weight: Array, grid: Grid, type: Type, share: float = 1.0) -> Scales:
    """The scales that span `share` of the range of the weights (and 0); 1 where all of them are 0."""
    low, high = (
        np.asarray(share * grid.reduced(o, weight).astype(np.float64)) for o in (np.minimum, np.maximum)
    )
    if type.symmetric:
        wide = np.maximum(-low, high) / type.limits[1]
    else:
        low, high = np.minimum(low, 0), np.maximum(high, 0)
        wide = (high - low) / type.limits[1]
    scale = np.where(wide > 0, np.maximum(wide, _SMALLEST), 1.0).astype(np.float32)
    zero = np.zeros_like(scale) if type.symmetric else np.rint(-low / scale.astype(np.float64))
    return Scales(scale, zero)


def fitted_scales(weight: Array, importance: Array, grid: Grid, type: Type) -> Scales:
    """Of the scales that span 100% down to 50% of the range, those of least squared error, block by block.

    `importance`: what the square of a weight's error counts, broadcast to the weight's shape.
    """
    best, least = nearest_scales(weight, grid, type), None
    for share in _SHARES:
        tried = nearest_scales(weight, grid, type, share)
        found = dequantized(quantized(weight, tried, grid, type), tried, grid)
        error = grid.reduced(np.add, importance * np.square(found - weight.astype(np.float64)))
        better = error < (np.inf if least is None else least)
        best = Scales(*(np.where(better, *p) for p in ((tried.scale, best.scale), (tried.zero, best.zero))))
        least = error if least is None else np.minimum(error, least)
    return best


def quantized(weight: Array, scales: Scales, grid: Grid, type: Type) -> Array:
    """The integers nearest to the weights, within the type's limits, in float64."""
    scale, zero = (grid.spread(s.astype(np.float64), weight.shape) for s in (scales.scale, scales.zero))
    return np.asarray(np.clip(np.rint(weight / scale) + zero, *type.limits))


def dequantized(codes: Array, scales: Scales, grid: Grid) -> Array:
    """ONNX's DequantizeLinear: `(code - zero) * scale` in float32."""
    scale, zero = (grid.spread(s, codes.shape) for s in (scales.scale, scales.zero))
    return np.asarray((codes - zero).astype(np.float32) * scale)
