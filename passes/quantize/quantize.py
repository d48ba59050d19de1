"""Static quantization to 8 bits, written as QuantizeLinear and DequantizeLinear pairs."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, ClassVar, Literal

import numpy as np
import onnx_graphsurgeon as gs

from optc.models.errors import InputError
from optc.models.model import Model
from optc.passes.base import Context, Contract, Lossy
from optc.passes.calibrate import observe
from optc.passes.quantize.groups import Range, code_ranges, sources
from optc.passes.quantize.insert import Inserter
from optc.passes.quantize.layers import Layer
from optc.passes.quantize.learn import Job, learn_weights
from optc.passes.quantize.plan import plan_layers
from optc.passes.quantize.region import Region, find_region
from optc.passes.quantize.scales import Code, activation_code
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
    layers before it really give, instead of rounding each weight to the nearest.

    A Split of what becomes integer is written as Slices.

    Needs opset 13 and calibration samples. BatchNormalization should be folded before (canonicalize). What
    stays float is declined with the reason. Raises `InputError` on bad options and bad calibration data.
    """

    name: ClassVar[str] = "quantize"
    contract: ClassVar[Contract] = Lossy("the precision beyond 8 bits of weights and activations")

    activations: Literal["int8", "uint8"] = "uint8"
    scales: Literal["any", "pow2"] = "any"
    calibration: Literal["minmax", "percentile", "entropy", "mse"] = "minmax"
    percentile: float = 99.99
    rounding: Literal["even", "half_up"] = "even"
    residual: Literal["code", "accumulator"] = "code"
    per_channel: bool = True
    weights: Literal["nearest", "learnt"] = "nearest"
    samples: int | None = None

    def __post_init__(self) -> None:
        if not 50 <= self.percentile <= 100:
            raise InputError(f"quantize: percentile {self.percentile} is not from 50 to 100")
        if self.samples is not None and self.samples < 1:
            raise InputError(f"quantize: samples {self.samples} is not at least 1")

    def run(self, model: Model, context: Context) -> bool:
        """Quantize `model`; True unless it has nothing (more) to quantize."""
        return self.with_ranges(model, context, {})

    def with_ranges(self, model: Model, context: Context, known: Mapping[str, Range]) -> bool:
        """As `run`; calibration has to tell only the ranges of values that are not `known`, by name."""
        region = find_region(model, self.residual == "accumulator")
        if model.opset >= _OLDEST_OPSET and slice_splits(model, region):
            region = find_region(model, self.residual == "accumulator")
        for node, reason in region.left:
            context.decline(node, reason)
        context.facts.update(_facts(region))
        if not region.units:
            return False
        self._check(model)
        codes = self._codes(model, region, context, known)
        layers = plan_layers(region, codes, self.per_channel, self.scales == "pow2")
        learnt = self.weights == "learnt"
        before = model.copy() if learnt else model
        jobs = _jobs(before, model, region, layers, codes) if learnt else []
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
            learn_weights(before, model, jobs, context, self.samples)
        return True

    def _check(self, model: Model) -> None:
        if model.opset < _OLDEST_OPSET:
            raise InputError(
                f"quantize needs opset {_OLDEST_OPSET} or later, the model has {model.opset}; "
                "run canonicalize first"
            )
        old = model.metadata().get(ROUNDING, self.rounding)
        if old != self.rounding:
            raise InputError(
                f"the model's integers are rounded '{old}' already; use quantize{{rounding={old}}}"
            )

    def _codes(
        self, model: Model, region: Region, context: Context, known: Mapping[str, Range]
    ) -> dict[int, Code]:
        """The code of each coded value, by its id()."""
        watched = [t for t in sources(region) if t.name not in known]
        make = self._statistics()
        seen = observe(model, {t.name: make() for t in watched}, context, self.samples) if watched else {}
        found = {id(t): known[t.name] for t in sources(region) if t.name in known}
        found |= {id(t): seen[t.name].range() for t in watched}
        dtype = np.dtype(self.activations)
        ranges = code_ranges(region, found, dtype == np.uint8)
        return {key: self._code(*ranges[key]) for key in ranges}

    def _code(self, low: float, high: float) -> Code:
        """The code of an activation seen in [low, high]."""
        return activation_code(low, high, np.dtype(self.activations), self.scales == "pow2")

    def _statistics(self) -> Callable[[], Statistics]:
        makers: dict[str, Callable[[], Statistics]] = {
            "minmax": MinMax,
            "percentile": lambda: Percentile(self.percentile),
            "mse": lambda: Searched(self._code, squared_error),
            "entropy": lambda: Searched(self._code, divergence),
        }
        return makers[self.calibration]


def _jobs(
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


def _facts(region: Region) -> dict[str, Any]:
    """Nodes of the region and nodes left float, by operator; how many values are coded."""

    def count(nodes: list[gs.Node]) -> dict[str, int]:
        return dict(sorted(Counter(str(n.op) for n in nodes).items()))

    return {
        "integer": count([n for u in region.units for n in u.nodes]),
        "float": count([node for node, _ in region.left]),
        "coded_values": len(region.coded),
    }
