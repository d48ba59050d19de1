"""BatchNormalization and Relu before layers (ResNet v2): the scale into the layers, the rest as bounds."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np
import onnx_graphsurgeon as gs
from numpy.typing import NDArray

from optc.models.model import Model
from optc.passes.analysis.shapes import rank_of
from optc.passes.base import Context, Contract, Exact
from optc.passes.canonicalize.absorb import ABSORB
from optc.passes.canonicalize.affine import read_batch_norm
from optc.passes.canonicalize.edit import Edit, edit_graphs
from optc.passes.preactivation.forms import Channels, Form, offset_form, stretch, zero_form
from optc.passes.preactivation.readers import absorbed, find_layers

Array = NDArray[Any]

LARGEST = float(np.finfo(np.float32).max)
"""Stands for infinity in a bound: it bounds nothing, and its code is the last one."""

STRETCH = 8
"""By how much the range of a value may grow: so many times coarser are its codes, in the worst case."""

DEVIATIONS = 6
"""So many standard deviations from the mean, values are taken to end."""

OLDEST = 8
"""Opset since which Max and Min broadcast."""


@dataclass(frozen=True)
class MovePreactivation:
    """Move the scale of BatchNormalization, behind it a Relu or none, into the layers that read the result.

    What is left in place needs no multiplication: Add of a constant a channel and Relu (Max and Min where
    scales are negative or 0). Where no layer pads, not even the Add: Max with a constant (Min for negative
    scales), and the rest goes into the layers' biases. A BatchNormalization that folds into the node before
    is left to canonicalize; others are declined with the reason, such as a channel that is nearly all shift.
    """

    name: ClassVar[str] = "move-preactivation"
    contract: ClassVar[Contract] = Exact()

    def run(self, model: Model, context: Context) -> bool:
        """Rewrite every BatchNormalization whose readers are, or lead to, layers with constant weights."""
        return edit_graphs(model, context, _move)


def _move(edit: Edit) -> bool:
    changed = False
    for node in edit.nodes("BatchNormalization"):
        reason = _moved(edit, node)
        changed |= reason is None
        if reason is not None:
            edit.context.decline(node, reason)
    return changed


def _moved(edit: Edit, node: gs.Node) -> str | None:
    """Rewrite one BatchNormalization, or say why not."""
    affine = read_batch_norm(edit, node)
    rank = rank_of(node.inputs[0])
    if edit.opset < OLDEST or affine is None or rank is None or node.inputs[1].dtype != np.float32:
        return "it has no float32 constants, its rank is not known, or its opset is below 8"
    maker = edit.producer(node.inputs[0])
    if maker is not None and maker.op in ABSORB and edit.only_use(node.inputs[0]) and _folds(edit, maker):
        return "it folds into the node before; run canonicalize"
    relu = _relu(edit, node)
    result = (relu or node).outputs[0]
    assert affine.scale is not None and affine.shift is not None
    scale, shift = affine.scale.reshape(-1), affine.shift.reshape(-1)
    layers = find_layers(edit, result, scale.size)
    if isinstance(layers, str):
        return layers
    channels = Channels(scale, shift, relu is not None, _reach(edit, node))
    form = (zero_form if any(layer.zero for layer in layers) else offset_form)(channels)
    if stretch(channels, form) > STRETCH:
        return "the shift of a channel is so large beside its scale that all codes would be coarse"
    new = [absorbed(edit, layer.node, form.factor, form.offset) for layer in layers]
    if not all(np.isfinite(a).all() for arrays in new for a in arrays if a is not None):
        return "moving it would overflow the weights"
    _write(edit, node, relu, form, rank)
    for layer, (weight, bias) in zip(layers, new, strict=True):
        edit.put_constant(layer.node, 1, weight)
        if bias is not None:
            edit.put_constant(layer.node, 2, bias)
    return None


def _reach(edit: Edit, node: gs.Node) -> float:
    """What |x| rarely passes, as the mean and variance of the BatchNormalization tell."""
    mean, variance = (edit.constant_input(node, index) for index in (3, 4))
    assert mean is not None and variance is not None
    deviation = np.sqrt(variance.astype(np.float64))
    return float((np.abs(mean.astype(np.float64)) + DEVIATIONS * deviation).max(initial=0))


def _folds(edit: Edit, maker: gs.Node) -> bool:
    """Whether canonicalize would fold a BatchNormalization into `maker`, not an Add of two activations."""
    return maker.op not in ("Add", "Mul") and any(edit.is_constant(t) for t in maker.inputs)


def _relu(edit: Edit, node: gs.Node) -> gs.Node | None:
    """The Relu that alone reads the result."""
    result = node.outputs[0]
    if not edit.only_use(result) or result.outputs[0].op != "Relu":
        return None
    return edit.producer(result.outputs[0].outputs[0])


def _write(edit: Edit, node: gs.Node, relu: gs.Node | None, form: Form, rank: int) -> None:
    """Put what `form` leaves of the two nodes in their place."""
    source, result = node.inputs[0], (relu or node).outputs[0]
    steps = _steps(form)
    for old in (node, relu):
        if old is not None:
            edit.remove(old)
    if not steps:
        edit.replace_uses(result, source)
    made: list[gs.Node] = []
    for index, (op, values) in enumerate(steps):
        last = index == len(steps) - 1
        name = f"{result.name}_{op.lower()}"
        output = result if last else gs.Variable(edit.new_name(name), result.dtype, result.shape)
        inputs = [source]
        if values is not None:
            inputs.append(edit.new_constant(f"{name}_constant", _shaped(values, rank)))
        made.append(gs.Node(op, edit.new_name(f"{name}_node"), inputs=inputs, outputs=[output]))
        source = output
    edit.insert(node, made)


def _steps(form: Form) -> list[tuple[str, Array | None]]:
    """Operators and constants, the fewest that give the form."""
    steps: list[tuple[str, Array | None]] = []
    if form.addend.any():
        steps.append(("Add", form.addend))
    if not form.low.any() and np.isinf(form.high).all():
        return [*steps, ("Relu", None)]
    for op, values in (("Max", form.low), ("Min", form.high)):
        if np.isfinite(values).any():
            steps.append((op, np.clip(values, -LARGEST, LARGEST)))
    return steps


def _shaped(values: Array, rank: int) -> Array:
    """float32 [c, 1, ...], or [] where all channels have the same."""
    same = bool((values == values[0]).all())
    return (
        values.astype(np.float32)[0].reshape(())
        if same
        else values.astype(np.float32).reshape(-1, *[1] * (rank - 2))
    )
