"""Static quantization to integers, written as QuantizeLinear and DequantizeLinear pairs."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from typing import ClassVar, Literal

import numpy as np

from optc.models.errors import InputError
from optc.models.model import Model
from optc.passes.base import Context, Contract, Lossy
from optc.passes.calibrate import observe
from optc.passes.names import layer_name
from optc.passes.quantize.groups import Seen, code_ranges, sources, with_equals
from optc.passes.quantize.insert import Inserter
from optc.passes.quantize.learn import find_jobs, learn_integers
from optc.passes.quantize.leave import Choice, left_by_name, unseen_units
from optc.passes.quantize.mixed import Attempt, Target, left_before, meet_target
from optc.passes.quantize.plan import plan_layers
from optc.passes.quantize.region import Region, find_region
from optc.passes.quantize.report import report
from optc.passes.quantize.scales import Code, activation_code
from optc.passes.quantize.settings import Setting
from optc.passes.quantize.splits import slice_splits
from optc.passes.quantize.statistics import (
    MinMax,
    Percentile,
    Searched,
    Statistics,
    divergence,
    squared_error,
)

ROUNDING = "optc.rounding"
"""The metadata entry that says how the model's integers are rounded; absent means `even`."""

_OLDEST_OPSET = 13
_OLDEST_OPSET_INT16 = 21


@dataclass(frozen=True)
class Quantize:
    """Turn the layers of a model, and what lies between them, into 8-bit integers (docs/semantics.md).

    Weights are symmetric int8, one scale a channel (`per_channel`) or a tensor; biases int32. `activations`:
    their type; `scales`: any, or powers of two only; `calibration`: the range of an activation is from its
    smallest to its largest value, or holds `percentile` percent of them, or is the one whose codes have the
    least squared error (`mse`) or the distribution nearest to the values' (`entropy`); `samples`: use only
    that many calibration samples; `rounding`: half to even, or half up, written into the model's metadata;
    `residual=accumulator`: what only feeds an Add stays in the accumulator, without a code of its own.

    `weights=learnt`: each layer's integers are fitted to what the float layer makes, on the codes that the
    layers before it really give, instead of rounding each weight to the nearest. `bias=corrected`: only the
    biases are.

    `layers`, `skip`: name patterns of what becomes integer, and what does not. `min_snr`, `max_drop`: the
    layers that lose most stay in `fallback`, as few as reach that signal-to-noise ratio of the outputs in dB
    on calibration samples (at most 64), or lose no more than that of the accuracy on labelled data.

    A Split of what becomes integer is written as Slices.

    Needs opset 13 (int16: 21) and calibration samples. BatchNormalization should be folded before
    (canonicalize). What stays float is declined with the reason: also what calibration showed only zeros of.
    Raises `InputError` on bad options, bad calibration data, and targets that cannot be reached.
    """

    name: ClassVar[str] = "quantize"
    contract: ClassVar[Contract] = Lossy("the precision beyond the integers' bits of weights and activations")

    activations: Literal["int8", "uint8", "int16"] = "uint8"
    scales: Literal["any", "pow2"] = "any"
    calibration: Literal["minmax", "percentile", "entropy", "mse"] = "minmax"
    percentile: float = 99.99
    rounding: Literal["even", "half_up"] = "even"
    residual: Literal["code", "accumulator"] = "code"
    per_channel: bool = True
    weights: Literal["nearest", "learnt"] = "nearest"
    bias: Literal["nearest", "corrected"] = "nearest"
    layers: tuple[str, ...] = ()
    skip: tuple[str, ...] = ()
    min_snr: float | None = None
    max_drop: float | None = None
    fallback: Literal["float", "int16"] = "float"
    samples: int | None = None

    def __post_init__(self) -> None:
        if not 50 <= self.percentile <= 100:
            raise InputError(f"quantize: percentile {self.percentile} is not from 50 to 100")
        if self.samples is not None and self.samples < 1:
            raise InputError(f"quantize: samples {self.samples} is not at least 1")
        if self.min_snr is not None and math.isnan(self.min_snr):
            raise InputError("quantize: min_snr nan is no number of dB")
        if self.max_drop is not None and not self.max_drop >= 0:
            raise InputError(f"quantize: max_drop {self.max_drop} is not at least 0")
        if self.residual == "accumulator" and "int16" in (self.activations, self.fallback):
            raise InputError("quantize: accumulators of int16 codes need 64 bits; use residual=code")

    def run(self, model: Model, context: Context) -> bool:
        """Quantize `model`; True unless it has nothing (more) to quantize."""
        kept = left_before(model) | left_by_name(model, self.layers, self.skip)
        if self.min_snr is None and self.max_drop is None:
            return self.with_ranges(model, context, {}, Choice(kept))
        target = Target(self.min_snr, self.max_drop, self.fallback)
        setting = Setting(self.activations, per_channel=self.per_channel, pow2=self.scales == "pow2")
        return meet_target(self._attempt(), target, setting, model, context, kept)

    def _attempt(self) -> Attempt:
        """As `with_ranges`; ranges seen once are not observed again."""
        known: dict[str, Seen] = {}
        return lambda model, context, choice: self.with_ranges(model, context, known, choice)

    def with_ranges(self, model: Model, context: Context, known: dict[str, Seen], choice: Choice) -> bool:
        """As `run`; ranges that are `known`, by name, need no calibration, and those found are added."""
        accumulators = self.residual == "accumulator"
        region = find_region(model, accumulators, choice.kept)
        split = model.opset >= _OLDEST_OPSET and slice_splits(model, region)
        if split:
            region = find_region(model, accumulators, choice.kept)
        if region.units:
            self._check(model, choice)
            self._observe(model, region, context, known)
        while unseen := unseen_units(region, known):
            choice = replace(choice, kept={**choice.kept, **unseen})
            region = find_region(model, accumulators, choice.kept)
            self._observe(model, region, context, known)
        report(region, context)
        if region.units:
            self._write(model, region, context, known, choice.wide)
        return split or bool(region.units)

    def _write(
        self,
        model: Model,
        region: Region,
        context: Context,
        known: Mapping[str, Seen],
        wide: frozenset[str],
    ) -> None:
        """Put the integers of `region` into `model`."""
        codes = self._codes(region, known, wide)
        layers = plan_layers(region, codes, self.per_channel, self.scales == "pow2", wide)
        refit = self.weights == "learnt" or self.bias == "corrected"
        before = model.copy() if refit else model
        jobs = find_jobs(before, model, region, layers, codes) if refit else []
        inserter = Inserter(model.graph, region)
        for unit in region.units:
            if id(unit) in layers:
                inserter.layer(unit, layers[id(unit)])
            if unit.constants:
                inserter.constants(unit, codes[id(unit.output)])
        for tensor in region.coded:
            inserter.code(tensor, codes[id(tensor)])
        inserter.finish()
        model.set_metadata(ROUNDING, self.rounding)
        if jobs:
            learn_integers(before, model, jobs, context, self.samples, self.weights == "learnt")

    def _check(self, model: Model, choice: Choice) -> None:
        wide = self.activations == "int16" or bool(choice.wide)
        oldest = _OLDEST_OPSET_INT16 if wide else _OLDEST_OPSET
        if model.opset < oldest:
            kind = "int16" if wide else "quantize"
            raise InputError(
                f"{kind} needs opset {oldest} or later, the model has {model.opset}; run canonicalize first"
            )
        old = model.metadata().get(ROUNDING, self.rounding)
        if old != self.rounding:
            raise InputError(
                f"the model's integers are rounded '{old}' already; use quantize{{rounding={old}}}"
            )

    def _observe(self, model: Model, region: Region, context: Context, known: dict[str, Seen]) -> None:
        """Add the ranges of the values whose codes are their own."""
        make = self._statistics()
        watched = {t.name: make() for t in sources(region) if t.name not in known}
        if watched:
            seen = observe(model, watched, context, self.samples)
            known.update({name: Seen(found.range(), found.extremes()) for name, found in seen.items()})

    def _codes(self, region: Region, known: Mapping[str, Seen], wide: frozenset[str]) -> dict[int, Code]:
        """The code of each coded value, by its id()."""
        seen = {id(t): known[t.name] for t in sources(region)}
        spans = code_ranges(region, {k: s.range for k, s in seen.items()}, self.activations == "uint8")
        whole = code_ranges(region, {k: s.extremes for k, s in seen.items()}, False)
        widened = [u for u in region.units if layer_name(u.head) in wide]
        int16 = with_equals(region, {id(t) for u in widened for t in (*u.operands, u.output)})
        return {k: self._code(*whole[k], "int16") if k in int16 else self._code(*spans[k]) for k in spans}

    def _code(self, low: float, high: float, activations: str | None = None) -> Code:
        """The code of an activation seen in [low, high]."""
        dtype = np.dtype(activations or self.activations)
        return activation_code(low, high, dtype, self.scales == "pow2")

    def _statistics(self) -> Callable[[], Statistics]:
        makers: dict[str, Callable[[], Statistics]] = {
            "minmax": MinMax,
            "percentile": lambda: Percentile(self.percentile),
            "mse": lambda: Searched(self._code, squared_error),
            "entropy": lambda: Searched(self._code, divergence),
        }
        return makers[self.calibration]
