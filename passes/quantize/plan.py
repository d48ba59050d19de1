"""The integer layers of a region, given the codes of its values."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import onnx_graphsurgeon as gs
from numpy.typing import NDArray

from optc.models.errors import InputError
from optc.passes.names import layer_name
from optc.passes.quantize.layers import (
    Layer,
    LayerSource,
    Term,
    finest_scale,
    per_scale,
    quantize_layer,
    sum_fits,
)
from optc.passes.quantize.region import Region
from optc.passes.quantize.scales import Code
from optc.passes.quantize.units import Unit

Array = NDArray[Any]
Codes = Mapping[int, Code]


def plan_layers(
    region: Region, codes: Codes, per_channel: bool, pow2: bool, wide: Collection[str] = ()
) -> dict[int, Layer]:
    """The integer layer of every unit with weights, by the unit's id(). `codes`: by a value's id().

    With power-of-two scales, where layers meet other terms in the accumulator of an Add, their finest scales
    are doubled until the sum provably fits int32. `wide`: layers, by name, with weights of int16. Raises
    `InputError` for a weight with NaN or infinity.
    """
    plan = _Plan(region, codes, _output_scales(region, codes), per_channel, pow2, wide)
    layers = {id(u): plan.layer(u) for u in region.units if u.weight is not None}
    for unit in region.units:
        if pow2 and unit.head.op == "Add":
            _fit(unit, layers, plan)
    return layers


@dataclass(frozen=True)
class _Plan:
    region: Region
    codes: Codes
    outputs: Mapping[int, float]
    per_channel: bool
    pow2: bool
    wide: Collection[str]

    def layer(self, unit: Unit, at_least: Array | None = None) -> Layer:
        source = layer_source(unit, self.codes[id(unit.operands[0])], self.outputs.get(id(unit.output)))
        if layer_name(unit.head) in self.wide:
            source = replace(source, dtype=np.dtype(np.int16))
        return quantize_layer(source, self.per_channel, self.pow2, at_least)

    def term(self, tensor: gs.Tensor, layers: Mapping[int, Layer]) -> Term:
        """What an Add sums for its operand `tensor`."""
        if id(tensor) in self.codes:
            code = self.codes[id(tensor)]
            return Term(np.full(1, code.scale), np.full(1, code.reach))
        layer = layers[id(self.region.producers[id(tensor)])]
        return Term(layer.product, layer.bound)


def _output_scales(region: Region, codes: Codes) -> dict[int, float]:
    """The scale that the value of a unit is coded in: its own, or that of the Add which it feeds."""
    scales = {id(t): float(codes[id(t)].scale) for t in region.coded}
    for unit in region.units:
        for tensor in unit.operands:
            if id(tensor) not in scales:
                scales[id(tensor)] = float(codes[id(unit.output)].scale)
    return scales


def layer_source(unit: Unit, code: Code, output_scale: float | None) -> LayerSource:
    """What the layer of `unit` is made of, its input in `code`; `InputError` for NaN or infinity in it."""
    assert unit.weight is not None
    check_finite(unit)
    weight, bias = unit.weight.values, None
    if unit.bias is not None:
        bias = np.broadcast_to(unit.bias.values.reshape(-1), (weight.shape[unit.axis],))
    return LayerSource(weight, bias, unit.axis, code, output_scale)


def check_finite(unit: Unit) -> None:
    """`InputError` where the weight or the bias of `unit` holds NaN or infinity."""
    for constant in (unit.weight, unit.bias):
        if constant is not None and not np.isfinite(constant.values).all():
            raise InputError(f"constant '{constant.name}' holds NaN or infinity", unit.head.name)


def _fit(unit: Unit, layers: dict[int, Layer], plan: _Plan) -> None:
    """Coarsen the layers whose accumulators the Add of `unit` takes until the sum of its terms fits int32."""
    summed = [plan.region.producers[id(t)] for t in unit.operands if id(t) not in plan.codes]
    while summed:
        terms = [plan.term(t, layers) for t in unit.operands]
        fits = sum_fits(terms)
        if fits.all():
            return
        finest = finest_scale(terms)
        coarsened = False
        for source in summed:
            layer = layers[id(source)]
            double = per_scale(~fits & (layer.product == finest), layer.scale)
            if double.any():
                layers[id(source)] = plan.layer(source, np.where(double, layer.scale * 2, layer.scale))
                coarsened = True
        if not coarsened:
            raise InputError("its sum could overflow int32; use residual=code", unit.head.name)
