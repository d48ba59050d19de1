"""Integer weights learnt layer by layer: fitted to the float layer's results on the codes that really come
in.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import onnx_graphsurgeon as gs
from numpy.typing import NDArray

from optc.models.model import Model
from optc.passes.base import Context, describe
from optc.passes.calibrate import calibration_feeds
from optc.passes.layerwise.linear import Linear, as_linear
from optc.passes.layerwise.moments import Moments, least_squares, means, moments
from optc.passes.layerwise.rounding import round_with_feedback
from optc.passes.layerwise.walk import Walk
from optc.passes.quantize.layers import BIAS_MAX, ROOM, Layer
from optc.passes.quantize.region import Region
from optc.passes.quantize.scales import Code
from optc.passes.quantize.units import Unit

Array = NDArray[Any]

RIDGE = 0.3
"""How much the fitted weights are held to the float ones, as a share of the inputs' power."""

SAMPLES = 128
"""At most so many calibration samples are used: what layers read is held in memory for all of them."""


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


def find_jobs(
    before: Model, model: Model, region: Region, layers: Mapping[int, Layer], codes: Mapping[int, Code]
) -> list[Job]:
    """What there is to learn; `before` is a copy of `model`, which is float still."""
    originals = dict(zip((id(n) for n in model.view.nodes), before.view.nodes, strict=True))
    found = []
    for unit in region.units:
        if unit.weight is not None:
            reach = codes[id(unit.operands[0])].reach
            found.append(Job(unit, layers[id(unit)], originals[id(unit.head)], unit.weight.values, reach))
    return found


def learn_integers(
    before: Model, model: Model, jobs: list[Job], context: Context, samples: int | None, weights: bool
) -> None:
    """Set the integers of `jobs`, in graph order, to what makes the float layers' results.

    `before`: the float model; `model`: the quantized one, whose DQ nodes feed the layers. `weights`: fit the
    weights and the biases, else the biases only (Nagel et al. 2019, arXiv 1906.04721, section 4.2). Scales
    stay. A channel whose accumulator could come nearer to its limits than before keeps its integers.
    """
    count = min(samples or SAMPLES, SAMPLES)
    feeds = [f for _, f in calibration_feeds(model, context, count, what="reading samples")]
    old, new = Walk(before, feeds), Walk(model, feeds)
    for job in context.progress.track(
        jobs, "learning weights" if weights else "correcting biases", len(jobs)
    ):
        linear = as_linear(job.unit.head)
        if linear is None or len(_codes_of(job.unit.head, 1).outputs) > 1:  # no product; a shared weight
            continue
        if not weights and job.unit.bias is None:
            continue
        context.node = describe(job.original)
        wanted = old.after(job.original)
        new.before(job.unit.head)
        inputs = new.read(job.unit.head.inputs[0].name)
        if weights:
            _learn(job, linear, moments(linear, inputs, wanted, context.seed))
        else:
            _correct(job, linear, *means(linear, inputs, wanted))
    context.node = None


def _learn(job: Job, linear: Linear, found: Moments) -> None:
    """Fit, round, and put the integers into the graph."""
    matrix = linear.matrix(job.weight).astype(np.float64)
    scale, floats = _scale(job, linear), _float_bias(job, linear)
    start = np.concatenate([matrix, floats if _inside(job) else np.zeros(floats.shape)], axis=1)
    fitted = least_squares(found, start, None, RIDGE)[:, :-1]
    rows = found.gram[:, :-1, :-1]
    mean = found.gram[:, -1:, :-1]
    if job.unit.bias is not None:  # it takes in every error of the means
        rows = rows - mean.transpose(0, 2, 1) @ mean
    limit = int(np.iinfo(job.layer.weight.dtype).max)
    codes = round_with_feedback(fitted, rows, scale, -limit, limit)
    _store(job, linear, codes, _offset(job, linear, codes * scale, mean, found.cross[:, -1:]))


def _correct(job: Job, linear: Linear, mean: Array, wanted: Array) -> None:
    """Let the bias take in the error of the means; the weights stay."""
    codes = linear.matrix(job.layer.weight).astype(np.float64)
    _store(job, linear, codes, _offset(job, linear, codes * _scale(job, linear), mean, wanted))


def _offset(job: Job, linear: Linear, matrix: Array, mean: Array, wanted: Array) -> Array | None:
    """The bias [channels] that makes the means of the results right; None for a layer without one.

    `matrix`: the weights as floats, [g, k, m]; `mean`: of the rows, [g, 1, k]; `wanted`: of the results.
    """
    if job.unit.bias is None:
        return None
    return np.asarray(wanted - mean @ matrix + (0 if _inside(job) else _float_bias(job, linear))).reshape(-1)


def _inside(job: Job) -> bool:
    """Whether the layer itself adds its bias; else an Add behind it does."""
    return bool(job.unit.head.op != "MatMul")


def _scale(job: Job, linear: Linear) -> Array:
    """The scale of each channel, [g, 1, m]."""
    return _per_channel(job.layer.scale, job, linear)


def _float_bias(job: Job, linear: Linear) -> Array:
    """The float bias of each channel, [g, 1, m]; zeros where there is none."""
    return _per_channel(np.zeros(1) if job.unit.bias is None else job.unit.bias.values, job, linear)


def _per_channel(values: Array, job: Job, linear: Linear) -> Array:
    """One value a channel, or one for all, as [g, 1, m] in float64."""
    channels = job.weight.shape[job.unit.axis]
    flat = np.broadcast_to(values.astype(np.float64).reshape(-1), (channels,))
    return flat.reshape(linear.groups, 1, -1)


def _store(job: Job, linear: Linear, codes: Array, offset: Array | None) -> None:
    """Write the integers of the channels whose accumulator keeps within the bounds that were planned."""
    layer, axis = job.layer, job.unit.axis
    weight = linear.weight(codes, layer.weight.shape).astype(layer.weight.dtype)
    others = tuple(a for a in range(weight.ndim) if a != axis)
    bound = np.abs(weight.astype(np.int64)).sum(axis=others) * job.reach
    bias = None
    if offset is not None and layer.bias is not None:
        exact = np.rint(offset / np.broadcast_to(layer.product.astype(np.float64), offset.shape))
        bias = np.clip(exact, -BIAS_MAX, BIAS_MAX).astype(np.int32)
        bound = bound + np.abs(bias.astype(np.int64))
    taken = bound <= np.minimum(ROOM * layer.bound, layer.limit)
    tall = [-1 if a == axis else 1 for a in range(weight.ndim)]
    _codes_of(job.unit.head, 1).values = np.where(taken.reshape(tall), weight, layer.weight)
    if bias is not None and layer.bias is not None:
        reader = job.unit.head if _inside(job) else job.unit.nodes[1]
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
