"""The integer weights and biases of a layer (docs/semantics.md, "Weights and biases")."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from optc.passes.quantize.scales import INT32_MAX, Code, bounded, power_of_two

Array = NDArray[Any]

BIAS_MAX = 2.0**30
ROOM = 1.25
"""By how much learning may raise the bound of an accumulator; sums of accumulators are planned with it."""
_FINEST = 2.0**-20


@dataclass
class Layer:
    """A layer in integers: `acc = sum((q_x - z_x) * weight) + bias`, of value `acc * product`.

    `weight`: int8 or int16, the shape of the float weight; `scale`: float32, one a channel of `axis` (or one
    in all, shape [1]); `bias`: int32 a channel, or None; `product`: float32, the input's scale times `scale`;
    `bound`: the largest magnitude that the accumulator of each channel can reach, `limit`: may reach.
    """

    weight: Array
    scale: Array
    bias: Array | None
    product: Array
    bound: Array
    limit: int = INT32_MAX


@dataclass(frozen=True)
class LayerSource:
    """What a layer is made of.

    `weight`: float32; `bias`: float32 a channel, or None; `axis`: the channels' axis of the weight; `input`:
    the input's code; `output_scale`: the scale that the result is coded in, None where it stays float;
    `dtype`: of the integer weights.
    """

    weight: Array
    bias: Array | None
    axis: int
    input: Code
    output_scale: float | None
    dtype: np.dtype[Any] = np.dtype(np.int8)

    @property
    def limit(self) -> int:
        """The largest magnitude of an integer weight."""
        return int(np.iinfo(self.dtype).max)


def quantize_layer(
    source: LayerSource, per_channel: bool, pow2: bool, at_least: Array | None = None
) -> Layer:
    """`source` in integers: symmetric weights, int32 bias of the accumulator's own scale.

    The scale of a channel is `max|w| / 127` (for int16 32767), but never so small that the bias passes 2**30
    or that the accumulator's unit lies below 2**-20 of the output's, nor below `at_least` (one a scale); and
    it is doubled until the accumulator provably fits int32 (behind codes of 8 bits).
    """
    wanted = _scales(source, per_channel)
    scale = bounded(power_of_two(wanted) if pow2 else wanted)
    scale = scale if at_least is None else np.maximum(scale, at_least).astype(np.float32)
    layer = _with_scale(source, scale)
    while np.any(layer.bound > layer.limit):
        scale = np.where(per_scale(layer.bound > layer.limit, scale), scale * 2, scale).astype(np.float32)
        layer = _with_scale(source, scale)
    return layer


def _scales(source: LayerSource, per_channel: bool) -> Array:
    """The wanted scale of each channel (or of all, shape [1]) in float64; 0 for a channel of zeros."""
    others = tuple(a for a in range(source.weight.ndim) if a != source.axis)
    scale = np.abs(source.weight.astype(np.float64)).max(axis=others, initial=0) / source.limit
    x_scale = np.float64(source.input.scale)
    if source.bias is not None:
        scale = np.maximum(scale, np.abs(source.bias.astype(np.float64)) / (x_scale * BIAS_MAX))
    if source.output_scale is not None:
        scale = np.maximum(scale, _FINEST * source.output_scale / x_scale)
    return np.asarray(scale if per_channel else scale.max(keepdims=True, initial=0))


def _with_scale(source: LayerSource, scale: Array) -> Layer:
    shape = [1] * source.weight.ndim
    shape[source.axis] = scale.size
    rounded = np.rint(source.weight / scale.reshape(shape))
    weight = np.clip(rounded, -source.limit, source.limit).astype(source.dtype)
    product = np.float32(source.input.scale) * scale
    others = tuple(a for a in range(weight.ndim) if a != source.axis)
    bound = np.abs(weight.astype(np.int64)).sum(axis=others) * source.input.reach
    bias = None
    if source.bias is not None:
        exact = np.rint(source.bias.astype(np.float64) / product.astype(np.float64))
        bias = np.clip(exact, -BIAS_MAX, BIAS_MAX).astype(np.int32)
        bound = bound + np.abs(bias.astype(np.int64))
    return Layer(weight, scale, bias, product, bound, source.input.accumulator_max)


def per_scale(channels: Array, scale: Array) -> Array:
    """For each scale, whether a bool a channel is set for any of its channels."""
    return channels if scale.size == channels.size else np.any(channels, keepdims=True)


@dataclass(frozen=True)
class Term:
    """An operand of an int32 sum: its scale, a power of two, and largest magnitude, a channel or in all."""

    scale: Array
    bound: Array


def finest_scale(terms: list[Term]) -> Array:
    """The smallest of the terms' scales, for each channel."""
    return np.asarray(np.minimum.reduce(np.broadcast_arrays(*[t.scale for t in terms])))


def sum_fits(terms: list[Term]) -> Array:
    """Whether the terms, each shifted left to the finest scale of its channel, sum within int32.

    Returns a bool for each channel. Half of int32's range is left to the rounding term, and `ROOM` to
    learning.
    """
    finest = finest_scale(terms).astype(np.float64)
    total = sum(t.bound * (t.scale.astype(np.float64) / finest) for t in terms)
    return np.asarray(total * ROOM <= INT32_MAX // 2)
