"""How far a model's outputs move when channels go: measured on calibration samples."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from optc.models.model import Model
from optc.passes.base import Context
from optc.passes.calibrate import calibration_feeds
from optc.passes.prune.noise import SAMPLES, Clean
from optc.passes.prune.structured.families import Channels, follow
from optc.passes.prune.structured.shrink import shrink

Array = NDArray[Any]

SHARES = (0.25, 0.5, 0.75)
"""The shares of a family's channels that are taken out to measure; between them the damage is interpolated.
"""


def measured_damage(model: Model, channels: Channels, orders: list[Array], context: Context) -> list[Array]:
    """The noise-to-signal ratio of the outputs after losing the first `n` channels of each family's order.

    One array a family, indexed by `n`. Each family is shrunk by itself, the others whole.
    """
    feeds = [f for _, f in calibration_feeds(model, context, SAMPLES, "allocation=sensitivity")]
    clean = Clean(model, feeds)
    found = []
    jobs = list(zip(channels.families, orders, strict=True))
    for family, order in context.progress.track(jobs, "measuring sensitivity", len(jobs)):
        size = family.components.size
        points, noise = [0.0], [0.0]
        for count in (round(share * size) for share in SHARES):
            copy = model.copy()
            gone = family.components[order[:count]]
            shrink(copy, follow(copy), np.isin(channels.components, gone))
            points.append(float(count))
            noise.append(max(clean.noise(copy), noise[-1]))
        found.append(np.interp(np.arange(size + 1), [*points, size], [*noise, 2 * max(noise[-1], 1.0)]))
    return found
