"""How far a model's outputs move when blocks of a layer go: measured on calibration samples."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from optc.models.model import Model
from optc.passes.base import Context
from optc.passes.calibrate import calibration_feeds
from optc.passes.canonicalize.edit import all_names
from optc.passes.layerwise.linear import as_linear
from optc.passes.layerwise.walk import Walk
from optc.passes.prune.blocks import Blocks
from optc.passes.prune.noise import SAMPLES, Clean
from optc.passes.prune.repair import Repair, fit, fits

Array = NDArray[Any]

SHARES = (0.25, 0.5, 0.75)
"""The shares of a layer's blocks that are zeroed to measure."""


def measured_prices(
    model: Model, blocks: Sequence[Blocks], how: Repair, samples: int, context: Context
) -> list[Array]:
    """What each block of each layer adds to the outputs' noise-to-signal ratio, in the order they go.

    Each layer loses blocks by itself, the others are whole; with a repair it is fitted on `samples`. Between
    the shares that are measured the noise is interpolated, and its lower convex hull taken: so prices ascend.
    """
    limit = SAMPLES if how == "none" else max(samples, SAMPLES)
    feeds = [f for _, f in calibration_feeds(model, context, limit, "allocation=sensitivity")]
    clean, walk = Clean(model, feeds[:SAMPLES]), Walk(model, feeds)
    prices = []
    for each in context.progress.track(blocks, "measuring sensitivity", len(blocks)):
        counts = [round(share * each.sums.size) for share in SHARES]
        noise = [clean.noise(m) for m in _without(model, each, counts, how, walk, context.seed)]
        worst = 2 * max(*noise, 1.0)
        prices.append(_slopes([0, *counts, each.sums.size], [0.0, *noise, worst]))
    return prices


def _without(
    model: Model, blocks: Blocks, counts: Sequence[int], how: Repair, walk: Walk, seed: int
) -> Iterator[Model]:
    """The model without so many blocks of a layer, repaired."""
    node = blocks.layer.node
    fitted = how != "none" and fits(node, model)
    if fitted:
        walk.before(node)
        inputs = walk.read(node.inputs[0].name)
        wanted = walk.after(node)
    for count in counts:
        copy = model.copy()
        own = next(n for n in copy.view.nodes if n.outputs[0].name == node.outputs[0].name)
        weight = own.inputs[blocks.layer.index]
        weight.values = np.where(blocks.mask(count), weight.dtype.type(0), weight.values)
        copy.changed = True
        linear = as_linear(own)
        if fitted and linear is not None:
            fit(linear, inputs, wanted, how, seed, all_names(copy.view))
        yield copy


def _slopes(counts: Sequence[int], noise: Sequence[float]) -> Array:
    """By how much the lower convex hull of `noise` rises from each count to the next."""
    found, at = [], 0
    while at < len(counts) - 1:
        ahead = [n for n in range(at + 1, len(counts)) if counts[n] > counts[at]]
        if not ahead:
            break
        slope, to = min(((noise[n] - noise[at]) / (counts[n] - counts[at]), -n) for n in ahead)
        found.append(np.full(counts[-to] - counts[at], slope))
        at = -to
    return np.concatenate(found) if found else np.zeros(0)
