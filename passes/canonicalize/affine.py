"""Which nodes compute `scale * x + shift` with constants, and with which."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import onnx_graphsurgeon as gs
from numpy.typing import NDArray

from optc.passes.analysis.shapes import shape_of
from optc.passes.canonicalize.edit import Edit

Doubles = NDArray[np.float64]

OPS = ("BatchNormalization", "Mul", "Div", "Add", "Sub", "Neg")


@dataclass(frozen=True)
class Affine:
    """`scale * source + shift`, float64; arrays broadcast against the value as in ONNX. None: 1 and 0."""

    source: gs.Tensor
    scale: Doubles | None
    shift: Doubles | None


def read_affine(edit: Edit, node: gs.Node) -> Affine | None:
    """What `node` computes, None where it is no affine function of one value with finite float constants."""
    if node.op == "BatchNormalization":
        return read_batch_norm(edit, node)
    if node.op == "Neg":
        return Affine(node.inputs[0], _minus_one(), None)
    return _read_arithmetic(edit, node)


def read_batch_norm(edit: Edit, node: gs.Node) -> Affine | None:
    """BatchNormalization in inference: scale = gamma / sqrt(var + epsilon), shift = beta - mean * scale."""
    if node.attrs.get("training_mode", 0) or not node.attrs.get("spatial", 1) or len(node.inputs) != 5:
        return None
    if any(t.name for t in node.outputs[1:]):  # before opset 14, more outputs mean training
        return None
    rank = shape_of(node.inputs[0])
    arrays = [_doubles(edit, t) for t in node.inputs[1:]]
    if any(a is None or a.ndim != 1 for a in arrays):
        return None
    gamma, beta, mean, variance = (a for a in arrays if a is not None)
    variance = variance + float(node.attrs.get("epsilon", 1e-5))
    if not (variance > 0).all():
        return None
    scale = gamma / np.sqrt(variance)
    ones = (1,) * ((len(rank) if rank else 2) - 2)
    return Affine(node.inputs[0], scale.reshape(-1, *ones), (beta - mean * scale).reshape(-1, *ones))


def _read_arithmetic(edit: Edit, node: gs.Node) -> Affine | None:
    if len(node.inputs) != 2:
        return None
    left, right = (_doubles(edit, t) for t in node.inputs)
    if (left is None) == (right is None):
        return None
    first = right is not None
    constant = right if right is not None else left
    source = node.inputs[0 if first else 1]
    assert constant is not None
    if node.op == "Mul":
        return Affine(source, constant, None)
    if node.op == "Add":
        return Affine(source, None, constant)
    if node.op == "Sub":
        return Affine(source, None, -constant) if first else Affine(source, _minus_one(), constant)
    if node.op == "Div" and first and (constant != 0).all():
        return Affine(source, 1 / constant, None)
    return None


def _minus_one() -> Doubles:
    return np.array(-1.0)


def _doubles(edit: Edit, tensor: gs.Tensor) -> Doubles | None:
    """A float constant in float64, None where it is none or not finite."""
    if not edit.is_constant(tensor) or np.dtype(tensor.dtype).kind != "f":
        return None
    values: NDArray[Any] = tensor.values
    return values.astype(np.float64) if np.isfinite(values).all() else None


def along_axis(values: Doubles | None, axis: int, rank: int, size: int) -> Doubles | None:
    """`values` as one number for each of the `size` places of `axis` in a value of rank `rank`.

    None where they vary along another axis, or would widen the value.
    """
    if values is None or values.ndim > rank:
        return None
    shape = (1,) * (rank - values.ndim) + values.shape
    others = [d for place, d in enumerate(shape) if place != axis]
    if any(d != 1 for d in others) or shape[axis] not in (1, size):
        return None
    return np.broadcast_to(values.reshape(-1), (size,))
