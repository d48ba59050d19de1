"""Add, Max and Min by constants, channel by channel: they keep their input's code (docs/semantics.md)."""

from __future__ import annotations

from typing import Any

import numpy as np
import onnx_graphsurgeon as gs
from numpy.typing import NDArray

from optc.passes.analysis.shapes import broadcasts_into, shape_of
from optc.passes.quantize.scales import Code
from optc.passes.quantize.units import Surroundings, Unit

Array = NDArray[Any]


def read_channelwise(node: gs.Node, around: Surroundings) -> Unit | None:
    """The unit of `node`, an Add, Max or Min by a constant, and the bounds behind it; None if it is none.

    The constant has one value, or one for each place of axis 1. Behind follow any Max and Min by such
    constants, Relu and Clip, each the only reader of the one before.
    """
    constant = _constant(node, around)
    if constant is None:
        return None
    source = next(t for t in node.inputs if t is not constant)
    unit = Unit([node], [source], shares=True, constants=[(node, constant)])
    follower = around.only_reader(unit.output)
    while follower is not None:
        bound = _constant(follower, around) if follower.op in ("Max", "Min") else None
        if bound is not None:
            unit.constants.append((follower, bound))
        elif follower.op not in ("Relu", "Clip") or not _clamps(follower, unit.output, around):
            break
        unit.nodes.append(follower)
        follower = around.only_reader(unit.output)
    return unit


def _clamps(node: gs.Node, source: gs.Tensor, around: Surroundings) -> bool:
    return node.inputs[0] is source and around.clamps(node)


def _constant(node: gs.Node, around: Surroundings) -> gs.Constant | None:
    """The constant operand of an Add, Max or Min of two."""
    if len(node.inputs) != 2 or node.domain not in (None, "", "ai.onnx"):
        return None
    fixed = [t for t in node.inputs if around.fixed(t)]
    others = [t for t in node.inputs if around.varies(t)]
    if len(fixed) != 1 or len(others) != 1:
        return None
    (constant,), (source,) = fixed, others
    shape, own = shape_of(source), tuple(constant.shape)
    if not broadcasts_into(own, shape) or not np.isfinite(constant.values).all():
        return None
    one_axis = shape is None or all(d == 1 or len(shape) - len(own) + i == 1 for i, d in enumerate(own))
    return constant if one_axis else None


def constant_codes(op: str, values: Array, code: Code) -> tuple[Array, int]:
    """The codes of a constant beside a value of `code`, of the same scale, and their zero point.

    Of a bound they saturate like the value's own. What an Add adds is as exact as the scale lets it be: where
    a code does not fit the value's type, all are int32 with zero point 0.
    """
    span = 2 * (code.limits[1] - code.limits[0] + 1) * np.float64(code.scale)  # beyond all codes
    clipped = np.clip(values.astype(np.float64), -span, span)
    if op != "Add":
        return code.quantize(clipped.astype(np.float32)), code.zero_point
    integers = np.asarray(np.rint(clipped / np.float64(code.scale)), np.int32)
    moved = np.asarray(integers + code.zero_point)
    if np.all((moved >= code.limits[0]) & (moved <= code.limits[1])):
        return moved.astype(code.dtype), code.zero_point
    return integers, 0
