"""A node as one device of a tensor-parallel group runs it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import onnx_graphsurgeon as gs

from optc.passes.analysis.shapes import Shape, reshape_target
from optc.passes.partition.sharding.layout import Layout, Spec
from optc.passes.partition.sharding.op import Array, Facts, Op
from optc.passes.partition.sharding.rules_spatial import POOLS
from optc.passes.partition.sharding.window import windows

_TARGET = {"Reshape": 1, "Expand": 1, "Resize": 3}
"""Operators with an input that holds the shape of their output."""

_BIAS = {"Gemm": 2, "Conv": 2, "ConvTranspose": 2}

_WINDOWS = {"Conv", "ConvTranspose", *POOLS}


@dataclass(frozen=True)
class Local:
    """What becomes of a node on one device: the operator is the same, one node stays one node.

    `attrs` are all its attributes. `constants`: arrays to put in place of inputs, by position; the other
    inputs are the node's, in the layout that it reads them in. Constants that it reads whole are not among
    them: they stay what they are.
    """

    attrs: Mapping[str, Any]
    constants: Mapping[int, Array]


def local_node(node: gs.Node, facts: Facts, layout: Layout, device: int) -> Local:
    """`node` on the device of that number; `layout` is one that the rules allow, `facts` the model's."""
    op = facts.op(node)
    constants: dict[int, Array] = {}
    for place, spec in enumerate(layout.inputs):
        if place in op.constants and spec is not None:
            constants[place] = cut(values_of(node.inputs[place]), spec, device)
    bias = _BIAS.get(op.kind)
    if layout.reduce and device and bias in op.given:
        assert bias is not None
        constants[bias] = np.zeros_like(values_of(node.inputs[bias]))
    constants |= _target(op, layout, device)
    return Local({**node.attrs, **_window_attrs(op, layout, device), **_group(op, layout, device)}, constants)


def cut(array: Array, spec: Spec, device: int) -> Array:
    """What the device of that number holds of a whole array."""
    if spec is None:
        return array
    start, stop = spec.ranges[device]
    return array[(slice(None),) * spec.axis + (slice(start, stop),)]


def local_shape(shape: Shape, spec: Spec, device: int) -> Shape:
    """The shape of what the device of that number holds."""
    if spec is None:
        return shape
    start, stop = spec.ranges[device]
    return (*shape[: spec.axis], stop - start, *shape[spec.axis + 1 :])


def values_of(tensor: gs.Tensor) -> Array:
    """The contents of a constant, an initializer or what a Constant node gives."""
    if isinstance(tensor, gs.Constant):
        return np.asarray(tensor.values)
    ((name, value),) = tensor.inputs[0].attrs.items()
    if name == "value":
        return np.asarray(value.values)
    return np.asarray(value, np.float32 if name in ("value_float", "value_floats") else np.int64)


def _target(op: Op, layout: Layout, device: int) -> dict[int, Array]:
    """The shape of the output as a constant, where a device's is another."""
    place = _TARGET.get(op.kind)
    if place is None or place not in op.given or layout.outputs[0] is None:
        return {}
    source, out = op.ins[0], op.outs[0]
    assert source is not None and out is not None
    target = reshape_target(
        local_shape(source, layout.inputs[0], device), local_shape(out, layout.outputs[0], device)
    )
    if op.kind == "Resize":
        sizes = op.values[place].copy()
        start, stop = layout.outputs[0].ranges[device]
        sizes[layout.outputs[0].axis] = stop - start
        return {place: sizes}
    assert target is not None, "the rule for Reshape has seen to this"
    return {place: np.array(target, np.int64)}


def _group(op: Op, layout: Layout, device: int) -> dict[str, int]:
    """The groups of a convolution whose input and output channels are cut together."""
    groups = op.attrs.get("group", 1)
    ins, outs = layout.inputs[0], layout.outputs[0]
    if groups == 1 or ins is None or outs is None or (ins.axis, outs.axis) != (1, 1):
        return {}
    start, stop = ins.ranges[device]
    channels = op.dim(0, 1)
    assert isinstance(channels, int)
    return {"group": groups * (stop - start) // channels}


def _window_attrs(op: Op, layout: Layout, device: int) -> dict[str, Any]:
    """The pads that a device sees, where a spatial axis is cut: its own at the ends, none in between."""
    split, shape = layout.outputs[0], op.outs[0]
    if op.kind not in _WINDOWS or layout.reduce or split is None or split.axis < 2:
        return {}
    assert shape is not None
    found = windows(op)
    axes = len(found)
    numbers = op.attrs.get("auto_pad", "NOTSET") in ("NOTSET", "VALID")
    pads = op.ints("pads") or [0] * 2 * axes
    added = op.ints("output_padding") or [0] * axes
    for i, window in enumerate(found):
        size = shape[2 + i]
        if i + 2 == split.axis:
            assert window is not None, "the rule has seen to this"
            pads[i], pads[axes + i] = window.pads(split.ranges[device])
            added[i] = max(0, -pads[axes + i])
            pads[axes + i] += added[i]
        elif not numbers:
            assert window is not None and isinstance(size, int), "the rule has seen to this"
            pads[i], pads[axes + i] = window.pads((0, size))
    attrs: dict[str, Any] = {"pads": pads, "auto_pad": "NOTSET"}
    if op.kind == "ConvTranspose":
        attrs["output_padding"] = added
    return attrs
