"""Prune weights: the least important ones become zero, one by one."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, ClassVar, Literal

import numpy as np

from optc.models.errors import InputError
from optc.models.model import Model
from optc.passes.base import Context, Contract, Lossy
from optc.passes.prune.criteria import CRITERIA
from optc.passes.prune.layers import Layer, choose_layers, find_layers
from optc.passes.prune.masks import Mask, lowest_mask, lowest_masks


@dataclass(frozen=True)
class Prune:
    """Set the least important weights of Conv, ConvTranspose, Gemm and MatMul to zero; shapes stay.

    The share `sparsity` of the weights, to the nearest whole number, is zero afterwards, in each layer
    (`scope=tensor`) or over all chosen layers together (`scope=global`); weights that were zero before count,
    and stay. `layers` chooses by name patterns.
    The report gives the sparsity of each layer and of all together. Raises `InputError` for a sparsity
    outside [0, 1) and for a pattern that matches no layer.
    """

    name: ClassVar[str] = "prune"
    contract: ClassVar[Contract] = Lossy("the weights that matter least")

    criterion: Literal["magnitude"] = "magnitude"
    sparsity: float = 0.5
    scope: Literal["tensor", "global"] = "tensor"
    layers: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        if not 0 <= self.sparsity < 1:
            raise InputError(f"prune: sparsity {self.sparsity} is not at least 0 and below 1")
        if self.criterion not in CRITERIA:
            raise InputError(f"prune: no criterion '{self.criterion}'; there is {', '.join(CRITERIA)}")

    def run(self, model: Model, context: Context) -> bool:
        """Prune the chosen layers of `model`; True if a weight changed."""
        chosen = choose_layers(find_layers(model, context.decline), self.layers)
        changed = False
        for layer, mask in zip(chosen, self._masks(chosen), strict=True):
            context.node = layer.name
            if np.any(layer.weight.values[mask]):
                layer.weight.values = np.where(mask, layer.weight.dtype.type(0), layer.weight.values)
                model.changed = changed = True
        context.node = None
        context.facts.update(_sparsities(chosen))
        return changed

    def _masks(self, layers: list[Layer]) -> list[Mask]:
        criterion = CRITERIA[self.criterion].scores
        scores = [criterion(layer.weight.values, {}) for layer in layers]
        if self.scope == "global" and scores:
            return lowest_masks(scores, self.sparsity)
        return [lowest_mask(s, self.sparsity) for s in scores]


def _sparsities(layers: list[Layer]) -> dict[str, Any]:
    """`sparsity`: share of zeros over all `layers`; `layers`: weights, zeros and their share, by layer."""
    sizes = [layer.weight.values.size for layer in layers]
    zeros = [size - np.count_nonzero(x.weight.values) for x, size in zip(layers, sizes, strict=True)]
    rows = {
        layer.name: {"weights": size, "zeros": int(zero), "sparsity": float(zero / max(size, 1))}
        for layer, size, zero in zip(layers, sizes, zeros, strict=True)
    }
    return {"sparsity": float(sum(zeros) / max(sum(sizes), 1)), "layers": rows}
