"""Integer weights learnt layer by layer: fitted to the float layer's results on the codes that really come
in.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import onnx_graphsurgeon as gs
from numpy.typing import NDArray

from optc.models.model import Model
from optc.passes.base import Context, describe
from optc.passes.calibrate import calibration_feeds
from optc.passes.layerwise.linear import Linear, as_linear
from optc.passes.layerwise.moments import Moments, least_squares, moments
from optc.passes.layerwise.rounding import round_with_feedback
from optc.passes.layerwise.walk import Walk
from optc.passes.quantize.layers import BIAS_MAX, INT32_MAX, ROOM, Layer
from optc.passes.quantize.units import Unit

Array = NDArray[Any]

RIDGE = 0.3
"""How much the fitted weights are held to the float ones, as a share of the inputs' power."""

SAMPLES = 128
"""At most so many calibration samples are used: what layers read is held in memory for all of them."""

_LIMIT = 127


@dataclass(frozen=True)
class Job:
    """A layer to learn: its unit in the quantized graph, its integers, the same node of the float model."""

    unit: Unit
    layer: Layer
    original: gs.Node
    weight: Array
    """The float weight."""
    reach: int
    """The largest magnitude of an input's code, less its zero point."""


def learn_weights(
    before: Model, model: Model, jobs: list[Job], context: Context, samples: int | None
) -> None:
    """Set the integers of `jobs`, in graph order, to what makes the float layers' results.

    `before`: the float model; `model`: the quantized one, whose DQ nodes feed the layers. Scales stay. A
    channel whose accumulator could come nearer to int32's limits than before keeps its weights.
    """
    count = min(samples or SAMPLES, SAMPLES)
    feeds = [f for _, f in calibration_feeds(model, context, count, what="reading samples")]
    old, new = Walk(before, feeds), Walk(model, feeds)
    for job in context.progress.track(jobs, "learning weights", len(jobs)):
        linear = as_linear(job.unit.head)
        if linear is None or len(_codes_of(job.unit.head, 1).outputs) > 1:  # no product; a shared weight
            continue
        context.node = describe(job.original)
        wanted = old.after(job.original)
        new.before(job.unit.head)
        found = moments(linear, new.read(job.unit.head.inputs[0].name), wanted, context.seed)
        _learn(job, linear, found)
    context.node = None


def _learn(job: Job, linear: Linear, found: Moments) -> None:
    """Fit, round, and put the integers into the graph."""
    bias = job.unit.bias
    matrix = linear.matrix(job.weight).astype(np.float64)
    shape = (linear.groups, 1, matrix.shape[2])
    scale = np.broadcast_to(job.layer.scale.astype(np.float64), (shape[0] * shape[2],)).reshape(shape)
    floats = np.zeros(shape)
    if bias is not None:
        floats = np.broadcast_to(bias.values.astype(np.float64).reshape(-1), (shape[0] * shape[2],)).reshape(
            shape
        )
    inside = job.unit.head.op != "MatMul"  # else an Add behind the layer adds the bias
    start = np.concatenate([matrix, floats if inside else np.zeros(shape)], axis=1)
    fitted = least_squares(found, start, None, RIDGE)[:, :-1]
    rows = found.gram[:, :-1, :-1]
    mean = found.gram[:, -1:, :-1]
    if bias is not None:  # it takes in every error of the means
        rows = rows - mean.transpose(0, 2, 1) @ mean
    codes = round_with_feedback(fitted, rows, scale, -_LIMIT, _LIMIT)
    offset = found.cross[:, -1:] - mean @ (codes * scale) + (0 if inside else floats)
    _store(job, linear, codes, None if bias is None else offset.reshape(-1))


def _store(job: Job, linear: Linear, codes: Array, offset: Array | None) -> None:
    """Write the integers of the channels whose accumulator keeps within the bounds that were planned."""
    layer, axis = job.layer, job.unit.axis
    weight = linear.weight(codes, layer.weight.shape).astype(np.int8)
    others = tuple(a for a in range(weight.ndim) if a != axis)
    bound = np.abs(weight.astype(np.int64)).sum(axis=others) * job.reach
    bias = None
    if offset is not None and layer.bias is not None:
        exact = np.rint(offset / np.broadcast_to(layer.product.astype(np.float64), offset.shape))
        bias = np.clip(exact, -BIAS_MAX, BIAS_MAX).astype(np.int32)
        bound = bound + np.abs(bias.astype(np.int64))
    taken = bound <= np.minimum(ROOM * layer.bound, INT32_MAX)
    tall = [-1 if a == axis else 1 for a in range(weight.ndim)]
    _codes_of(job.unit.head, 1).values = np.where(taken.reshape(tall), weight, layer.weight)
    if bias is not None and layer.bias is not None:
        reader = job.unit.head if job.unit.head.op != "MatMul" else job.unit.nodes[1]
        _codes_of(reader, _bias_index(reader, job)).values = np.where(taken, bias, layer.bias).astype(
            np.int32
        )


def _bias_index(reader: gs.Node, job: Job) -> int:
    """At which input of `reader` the bias comes in."""
    if reader is job.unit.head:
        return 2
    return 1 if reader.inputs[0] is job.unit.head.outputs[0] else 0


def _codes_of(reader: gs.Node, index: int) -> gs.Constant:
    """The integers behind the DQ that `reader` reads at `index`."""
    codes = reader.inputs[index].inputs[0].inputs[0]
    assert isinstance(codes, gs.Constant)
    return codes
