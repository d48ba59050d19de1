"""Repair without training: what remains of each layer is fitted to what the layer made before pruning."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Literal

import numpy as np
import onnx_graphsurgeon as gs
from numpy.typing import NDArray
from onnx_graphsurgeon.ir.tensor import SparseValues

from optc.models.model import Model
from optc.passes.base import Context
from optc.passes.calibrate import calibration_feeds
from optc.passes.canonicalize.edit import all_names
from optc.passes.layerwise.bias import Bias
from optc.passes.layerwise.linear import Linear, as_linear
from optc.passes.layerwise.moments import least_squares, moments
from optc.passes.layerwise.walk import Walk
from optc.passes.names import layer_name
from optc.passes.prune.layers import FLOATS

Array = NDArray[Any]
Kept = Mapping[str, NDArray[np.bool_]]
"""By a value's name, which of its channels are left; a value that lost none is not in it."""

Repair = Literal["none", "bias", "weights"]

RIDGE = 1e-3
"""How much the fitted weights are held to the pruned ones, as a share of the inputs' power."""


def repair(before: Model, model: Model, how: Repair, kept: Kept, context: Context, samples: int) -> None:
    """Fit each layer of the pruned `model`, in order, to what it made in the model `before`.

    Its inputs are those that the repaired layers in front of it make; zero weights stay zero. `how`: only
    biases (the means of the results), or all weights by least squares on the layer's inputs, as in ThiNet
    (Luo et al. 2017, arXiv 1707.06342). What `fits` refuses stays. Raises `InputError` where calibration
    samples are missing or do not fit.
    """
    feeds = [f for _, f in calibration_feeds(model, context, samples, f"repair={how}", "reading samples")]
    old, new, names = Walk(before, feeds), Walk(model, feeds), all_names(model.view)
    layers = {n.outputs[0].name: n for n in before.view.nodes if fits(n, before)}
    jobs = [n for n in model.view.nodes if n.outputs and n.outputs[0].name in layers]
    for node in context.progress.track(jobs, "repairing", len(jobs)):
        linear = as_linear(node)
        assert linear is not None
        context.node = layer_name(node)
        wanted = old.after(layers[node.outputs[0].name])
        mask = kept.get(node.outputs[0].name)
        if mask is not None:
            wanted = [np.compress(mask, y, axis=1 if node.op == "Conv" else -1) for y in wanted]
        new.before(node)
        fit(linear, new.read(node.inputs[0].name), wanted, how, context.seed, names)
    context.node = None


def fits(node: gs.Node, model: Model) -> bool:
    """Whether `node` is a layer of dense constant weight and bias, which no caller may override."""
    if as_linear(node) is None or not isinstance(node.inputs[1], gs.Constant):
        return False
    if isinstance(node.inputs[1]._values, SparseValues) or node.inputs[1].dtype not in FLOATS:
        return False
    bias = Bias(node)
    constants = {node.inputs[1].name, bias.constant.name if bias.constant is not None else ""}
    return bias.known and constants.isdisjoint(model.overridable)


def fit(
    linear: Linear, inputs: list[Array], wanted: list[Array], how: Repair, seed: int, names: set[str]
) -> None:
    """Set the weight and bias of `linear`, which `fits`, to what makes `wanted` of `inputs`.

    A weight that others read too stays. `names`: those that are taken in the model.
    """
    node = linear.node
    if len(node.inputs[1].outputs) > 1:  # the others would get a weight that is not fitted to them
        how = "bias"
    bias = Bias(node)
    weight = node.inputs[1].values
    matrix = linear.matrix(weight).astype(np.float64)
    offset = bias.values.astype(np.float64).reshape(linear.groups, 1, -1)
    # Where an Add behind the layer adds the bias, the layer's result does not hold it.
    found = moments(linear, inputs, wanted, seed)
    start = np.concatenate([matrix, offset if bias.inside else np.zeros_like(offset)], axis=1)
    if how == "weights":
        fitted = least_squares(found, start, None if matrix.all() else matrix != 0, RIDGE)
    else:
        fitted = start.copy()
        fitted[:, -1] += (found.cross - found.gram @ start)[:, -1]
    if how == "weights":
        node.inputs[1].values = linear.weight(fitted[:, :-1], weight.shape).astype(weight.dtype)
    bias.set(fitted[:, -1].reshape(-1) + (0 if bias.inside else offset.reshape(-1)), names)
