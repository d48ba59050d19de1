"""Integer weights, with scales by block, learnt layer by layer; activations stay float."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import onnx_graphsurgeon as gs
from numpy.typing import NDArray

from optc.models.model import Model
from optc.passes.base import Context, describe
from optc.passes.calibrate import calibration_feeds
from optc.passes.canonicalize.edit import all_names
from optc.passes.layerwise.bias import Bias
from optc.passes.layerwise.linear import Linear, as_linear
from optc.passes.layerwise.moments import Moments, least_squares, moments
from optc.passes.layerwise.rounding import round_with_feedback
from optc.passes.layerwise.walk import Walk
from optc.passes.quantize.blocks import fitted_scales
from optc.passes.quantize.insert_weights import Stored
from optc.passes.quantize.learn import RIDGE, SAMPLES

Array = NDArray[Any]


@dataclass(frozen=True)
class Job:
    """A layer to learn: its node, the same node of the float model, and its constants."""

    node: gs.Node
    original: gs.Node
    stored: Stored


def learn_blocks(before: Model, model: Model, jobs: list[Job], context: Context, samples: int | None) -> None:
    """Set the constants of `jobs`, in graph order, to what makes the float layers' results.

    `before`: the float model; `model`: the quantized one. A bias takes in what the means are off. Layers that
    are no product of a matrix (ConvTranspose, a MatMul by more than one matrix), or whose bias is not the
    same for each row, keep the nearest integers.
    """
    count = min(samples or SAMPLES, SAMPLES)
    who = "quantize-weights{weights=learnt}"
    feeds = [f for _, f in calibration_feeds(model, context, count, who, "reading samples")]
    old, new, names = Walk(before, feeds), Walk(model, feeds), all_names(model.view)
    for job in context.progress.track(jobs, "learning weights", len(jobs)):
        linear = as_linear(job.node)
        if linear is None or not Bias(job.node).known:
            continue
        context.node = describe(job.original)
        wanted = old.after(job.original)
        new.before(job.node)
        found = moments(linear, new.read(job.node.inputs[0].name), wanted, context.seed)
        _learn(job, linear, found, set(model.overridable), names)
    context.node = None


def _learn(job: Job, linear: Linear, found: Moments, fixed: set[str], names: set[str]) -> None:
    """Fit, choose scales, round; put integers, scales and bias into the graph."""
    bias = Bias(job.node)
    takes = bias.constant is not None and bias.constant.name not in fixed
    original = as_linear(job.original)
    assert original is not None
    matrix = original.matrix(job.original.inputs[1].values).astype(np.float64)
    shape = (linear.groups, 1, matrix.shape[2])
    offset = bias.values.astype(np.float64).reshape(shape) if takes else np.zeros(shape)
    inside = offset if bias.inside else np.zeros(shape)  # else an Add behind the layer adds it
    fitted = least_squares(found, np.concatenate([matrix, inside], axis=1), None, RIDGE)[:, :-1]
    rows, mean = found.gram[:, :-1, :-1], found.gram[:, -1:, :-1]
    if takes:  # the bias takes in every error of the means
        rows = rows - mean.transpose(0, 2, 1) @ mean
    rounded = _round(job.stored, linear, fitted, rows)
    if takes:
        bias.set((found.cross[:, -1:] - mean @ rounded + offset - inside).reshape(-1), names)


def _round(stored: Stored, linear: Linear, fitted: Array, rows: Array) -> Array:
    """Choose scales and integers for the matrix `fitted`, store them; the matrix that they stand for."""
    shape, grid = tuple(stored.codes.values.shape), stored.grid
    weight = linear.weight(fitted, shape)
    power = np.diagonal(rows, axis1=1, axis2=2)[:, :, None]
    importance = linear.weight(np.broadcast_to(power, fitted.shape), shape)
    scales = fitted_scales(weight, importance, grid, stored.type)
    scale, zero = (
        linear.matrix(grid.spread(s.astype(np.float64), shape)) for s in (scales.scale, scales.zero)
    )
    low, high = stored.type.limits
    codes = round_with_feedback(fitted, rows, scale, low - zero, high - zero)
    stored.set(linear.weight(codes + zero, shape), scales)
    return np.asarray(codes * scale)
