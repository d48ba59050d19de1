"""How each linear operator takes a scale and a shift of its result into its own parameters."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
import onnx_graphsurgeon as gs
from numpy.typing import NDArray

from optc.passes.analysis.shapes import rank_of
from optc.passes.canonicalize.affine import Affine, Doubles, along_axis, read_batch_norm
from optc.passes.canonicalize.edit import Edit


@dataclass(frozen=True)
class Parameters:
    """New float64 values for some inputs of a node, and what becomes of its operator and attributes."""

    inputs: dict[int, Doubles]
    dtype: Any
    attrs: dict[str, Any]


def _weights(edit: Edit, maker: gs.Node, index: int) -> NDArray[Any] | None:
    tensor = edit.input(maker, index)
    if tensor is None or not edit.is_constant(tensor) or np.dtype(tensor.dtype).kind != "f":
        return None
    return edit.constant(tensor)


def _bias(edit: Edit, maker: gs.Node, index: int, size: int) -> Doubles | None:
    """The bias in float64, zeros where there is none; None where it is no constant."""
    if edit.input(maker, index) is None:
        return np.zeros(size)
    values = _weights(edit, maker, index)
    return None if values is None else values.astype(np.float64)


def _scaled(values: NDArray[Any], scale: Doubles | None, axis: int) -> Doubles:
    """`values` times `scale` along `axis`, in float64."""
    if scale is None:
        return values.astype(np.float64)
    shape = [1] * values.ndim
    shape[axis] = -1
    return values.astype(np.float64) * scale.reshape(shape)


def _per_channel(affine: Affine, axis: int, rank: int, size: int) -> tuple[Doubles | None, Doubles] | None:
    """Scale (None: none) and shift for each place of `axis`; None where the affine is not of that form."""
    scale = along_axis(affine.scale, axis, rank, size)
    shift = along_axis(affine.shift, axis, rank, size)
    if (scale is None) != (affine.scale is None) or (shift is None) != (affine.shift is None):
        return None
    return scale, np.zeros(size) if shift is None else shift


def _with_bias(edit: Edit, maker: gs.Node, new: dict[int, Doubles], bias: Doubles, dtype: Any) -> Parameters:
    if edit.input(maker, 2) is not None or bias.any():
        new[2] = bias
    return Parameters(new, dtype, {})


def _into_conv(edit: Edit, maker: gs.Node, affine: Affine) -> Parameters | None:
    weights = _weights(edit, maker, 1)
    if weights is None:
        return None
    size = weights.shape[0]
    return _into_kernel(edit, maker, affine, weights, size)


def _into_conv_transpose(edit: Edit, maker: gs.Node, affine: Affine) -> Parameters | None:
    weights = _weights(edit, maker, 1)
    if weights is None:
        return None
    size = weights.shape[1] * int(maker.attrs.get("group", 1))
    return _into_kernel(edit, maker, affine, weights, size)


def _into_kernel(
    edit: Edit, maker: gs.Node, affine: Affine, weights: NDArray[Any], size: int
) -> Parameters | None:
    bias = _bias(edit, maker, 2, size)
    found = _per_channel(affine, 1, weights.ndim, size)
    if bias is None or found is None:
        return None
    scale, shift = found
    new = {}
    if scale is not None:
        new[1] = _scale_kernel(maker, weights, scale)
        bias = bias * scale
    return _with_bias(edit, maker, new, bias + shift, weights.dtype)


def _scale_kernel(maker: gs.Node, weights: NDArray[Any], scale: Doubles) -> Doubles:
    """Scale the output channels: axis 0 of a Conv's weights, axis 1 in each group of a ConvTranspose's."""
    if maker.op == "Conv":
        return _scaled(weights, scale, 0)
    groups = int(maker.attrs.get("group", 1))
    split = weights.reshape(groups, weights.shape[0] // groups, *weights.shape[1:]).astype(np.float64)
    factors = scale.reshape(groups, 1, -1, *[1] * (weights.ndim - 2))
    return (split * factors).reshape(weights.shape)


def _into_gemm(edit: Edit, maker: gs.Node, affine: Affine) -> Parameters | None:
    weights = _weights(edit, maker, 1)
    if weights is None or weights.ndim != 2:
        return None
    axis = 0 if maker.attrs.get("transB", 0) else 1
    size = weights.shape[axis]
    found = _per_channel(affine, 1, 2, size)
    bias = _bias(edit, maker, 2, size)
    if found is None or bias is None or along_axis(bias, 1, 2, size) is None:
        return None
    scale, shift = found
    bias = np.broadcast_to(bias.reshape(-1), (size,)) * float(maker.attrs.get("beta", 1.0))
    new = {}
    if scale is not None:
        new[1] = _scaled(weights, scale, axis)
        bias = bias * scale
    parameters = _with_bias(edit, maker, new, bias + shift, weights.dtype)
    return Parameters(parameters.inputs, parameters.dtype, {"beta": 1.0} if "beta" in maker.attrs else {})


def _into_matmul(edit: Edit, maker: gs.Node, affine: Affine) -> Parameters | None:
    weights = _weights(edit, maker, 1)
    rank = rank_of(maker.inputs[0])
    if weights is None or weights.ndim != 2 or affine.shift is not None or not rank or rank < 2:
        return None
    scale = along_axis(affine.scale, rank - 1, rank, weights.shape[1])
    return None if scale is None else Parameters({1: _scaled(weights, scale, 1)}, weights.dtype, {})


def _into_batch_norm(edit: Edit, maker: gs.Node, affine: Affine) -> Parameters | None:
    gamma = _weights(edit, maker, 1)
    rank = rank_of(maker.inputs[0])
    if gamma is None or not rank or rank < 2 or read_batch_norm(edit, maker) is None:
        return None
    found = _per_channel(affine, 1, rank, gamma.size)
    beta = _bias(edit, maker, 2, gamma.size)
    if found is None or beta is None:
        return None
    scale, shift = found
    new = {}
    if scale is not None:
        new[1] = gamma.astype(np.float64) * scale
        beta = beta * scale
    new[2] = beta + shift
    return Parameters(new, gamma.dtype, {})


def _into_arithmetic(edit: Edit, maker: gs.Node, affine: Affine) -> Parameters | None:
    """Two scales, or two shifts, by constants in a row are one."""
    index = 1 if edit.is_constant(maker.inputs[1]) else 0
    values = _weights(edit, maker, index)
    rank = rank_of(maker.outputs[0])
    other, absent = (affine.scale, affine.shift) if maker.op == "Mul" else (affine.shift, affine.scale)
    if values is None or other is None or absent is not None or rank is None or other.ndim > rank:
        return None
    doubles = values.astype(np.float64)
    merged = doubles * other if maker.op == "Mul" else doubles + other
    lost = (merged.astype(values.dtype) == 0) & (merged != 0)
    if merged.size > max(values.size, other.size) or lost.any():
        return None
    return Parameters({index: merged}, values.dtype, {})


ABSORB: dict[str, Callable[[Edit, gs.Node, Affine], Parameters | None]] = {
    "Conv": _into_conv,
    "ConvTranspose": _into_conv_transpose,
    "Gemm": _into_gemm,
    "MatMul": _into_matmul,
    "BatchNormalization": _into_batch_norm,
    "Mul": _into_arithmetic,
    "Add": _into_arithmetic,
}
"""By operator: the parameters with which a node gives the affine function of its old result, or None."""
