"""How much each layer loses by itself under each setting: an analysis, in one sweep over the model."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from optc.models.errors import InputError
from optc.models.model import Model
from optc.models.session import Arrays, Session
from optc.passes.base import Context, describe
from optc.passes.calibrate import calibration_feeds
from optc.passes.layerwise.walk import Walk, stacked
from optc.passes.names import layer_name, match_patterns
from optc.passes.quantize.alone import Alone
from optc.passes.quantize.region import find_region
from optc.passes.quantize.settings import SETTINGS as SETTINGS
from optc.passes.quantize.settings import Setting
from optc.passes.quantize.units import Unit
from optc.passes.text import suggest
from optc.passes.verify.snr import worst_snr

Array = NDArray[Any]
Layers = Sequence[str] | Callable[[str], bool]

SAMPLES = 16

_BATCH = 8
"""At most so many samples go through a session at once."""

_SAME = 1e-3
"""How near, as a share of the largest value, a batch's outputs are to those of its samples one by one."""


@dataclass(frozen=True)
class Sensitivity:
    """How much one layer loses by itself under one setting.

    `layer`: its name, as in messages and name patterns; `setting`: the name of one; `own_db`: the
    signal-to-noise ratio of the layer's own result, the layer fed what the float model feeds it; `output_db`:
    that of the model's outputs (the worst float output), everything else float. Infinite where nothing moves.
    """

    layer: str
    op: str
    setting: str
    own_db: float
    output_db: float


def sensitive_units(model: Model) -> list[Unit]:
    """The layers that can be quantized, in graph order: those with weights, and products of activations."""
    return [u for u in find_region(model, False).units if u.seed]


def sensitivities(
    model: Model,
    context: Context,
    settings: Sequence[str] | Mapping[str, Setting] | None = None,
    samples: int = SAMPLES,
    layers: Layers | None = None,
) -> list[Sensitivity]:
    """Every layer of the canonical float `model` under every setting (all of `SETTINGS`, by default; some of
    them by name, or others).

    The layer's inputs, coded for the range that the first `samples` calibration samples span, and its weight
    are rounded; the result goes through what comes behind the layer, and nothing else is computed anew.
    `layers`: name patterns, or which names to take. Layers in graph order, for each its settings in order; a
    setting that changes nothing of a layer (weights, of a product of activations) is left out. Raises
    `InputError` for unknown names and bad calibration data.
    """
    chosen = _settings(settings)
    units = _chosen(sensitive_units(model), layers)
    if not units:
        return []
    feeds, clean = _feeds(model, context, samples)
    walk = Walk(model, feeds)
    found: list[Sensitivity] = []
    for unit in context.progress.track(units, "sensitivity", len(units)):
        context.node = describe(unit.head)
        found += _measured(model, walk, unit, chosen, clean)
    context.node = None
    return found


def _settings(wanted: Sequence[str] | Mapping[str, Setting] | None) -> Mapping[str, Setting]:
    if wanted is None or isinstance(wanted, Mapping):
        return SETTINGS if wanted is None else wanted
    for name in wanted:
        if name not in SETTINGS:
            raise InputError(f"sensitivity: unknown setting '{name}'{suggest(name, list(SETTINGS))}")
    return {name: SETTINGS[name] for name in wanted}


def _chosen(units: list[Unit], layers: Layers | None) -> list[Unit]:
    if layers is None:
        return units
    names = [layer_name(u.head) for u in units]
    if callable(layers):
        return [u for u, name in zip(units, names, strict=True) if layers(name)]
    wanted = set(match_patterns("sensitivity", names, tuple(layers)))
    return [u for u, name in zip(units, names, strict=True) if name in wanted]


def _feeds(model: Model, context: Context, samples: int) -> tuple[list[Arrays], list[Arrays]]:
    """The calibration samples, in batches where the model takes them so, and its outputs for them."""
    singles = [f for _, f in calibration_feeds(model, context, samples, "sensitivity", "reading samples")]
    session = Session(model, optimize=True)
    outputs = [session.run(f) for f in singles]
    if len({tuple(v.shape for v in f.values()) for f in singles}) > 1:
        return singles, outputs
    groups = [singles[i : i + _BATCH] for i in range(0, len(singles), _BATCH)]
    batches = [{name: stacked([f[name] for f in group]) for name in group[0]} for group in groups]
    try:
        together = [session.run(f) for f in batches]
    except InputError:  # a batch that is fixed, somewhere
        return singles, outputs
    return (batches, together) if _same(together, outputs) else (singles, outputs)


def _same(together: list[Arrays], outputs: list[Arrays]) -> bool:
    """Whether batches make what their samples make one by one."""
    for name in together[0]:
        values = [[np.asarray(v[name]) for v in runs] for runs in (together, outputs)]
        a, b = (stacked(v) for v in values)
        if a.shape != b.shape or a.dtype.kind not in "fiub":
            return False
        near = _SAME * float(np.abs(b[np.isfinite(b)]).max(initial=0.0))
        if not np.allclose(a, b, rtol=_SAME, atol=near, equal_nan=True):
            return False
    return True


def _measured(
    model: Model, walk: Walk, unit: Unit, settings: Mapping[str, Setting], clean: list[Arrays]
) -> Iterator[Sensitivity]:
    """The layer of `unit` under each setting."""
    walk.before(unit.head)
    alone = Alone(model, unit, {t.name: walk.read(t.name) for t in unit.operands})
    result = alone.run()
    fork = walk.fork(unit.head, result[0])
    name = unit.head.outputs[0].name
    for setting, made_of in settings.items():
        if made_of.touches(unit):
            values = alone.run(made_of)
            own = worst_snr([{name: y} for y in result], [{name: y} for y in values])
            output = worst_snr(clean, fork.run(values))
            yield Sensitivity(layer_name(unit.head), str(unit.head.op), setting, own, output)
