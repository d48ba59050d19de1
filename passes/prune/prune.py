"""Prune weights: the least important ones become zero; shapes stay."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, ClassVar, Literal

import numpy as np

from optc.models.errors import InputError
from optc.models.model import Model
from optc.passes.base import Context, Contract, Lossy
from optc.passes.prune.criteria import CRITERIA
from optc.passes.prune.layers import Layer, choose_layers, find_layers
from optc.passes.prune.masks import Mask
from optc.passes.prune.pattern import Pattern, arranged, restored
from optc.passes.prune.repair import Repair, repair
from optc.passes.prune.scores import Scorer


@dataclass(frozen=True)
class Prune:
    """Set the least important weights of Conv, ConvTranspose, Gemm and MatMul to zero; shapes stay.

    `pattern`: single weights, N of M neighbours along the channels that are summed stay (`2:4`), or blocks of
    output by summed channels go together (`16x16`). The share `sparsity` of the weights or blocks, to the
    nearest whole number, is zero afterwards, in each layer (`scope=tensor`) or over all chosen layers
    together (`scope=global`); N:M says itself how many. What was zero before counts, and stays.

    `criterion`: how much a weight matters. `layers`, `skip`: name patterns of what is, and is not, pruned.
    `repair`: re-estimate the biases, or all remaining weights, of each layer from `samples` calibration
    samples.

    The report gives the sparsity of each layer and of all together. Raises `InputError` for bad options, for
    a pattern of names that matches no layer, and where calibration samples are needed and missing.
    """

    name: ClassVar[str] = "prune"
    contract: ClassVar[Contract] = Lossy("the weights that matter least")

    criterion: Literal["magnitude", "magnitude-l2", "activation", "random"] = "magnitude"
    sparsity: float = 0.5
    pattern: str = "single"
    scope: Literal["tensor", "global"] = "tensor"
    layers: tuple[str, ...] = ()
    skip: tuple[str, ...] = ()
    repair: Repair = "none"
    samples: int = 128

    def __post_init__(self) -> None:
        """Check the options."""
        Pattern.parse(self.pattern)
        if not 0 <= self.sparsity < 1:
            raise InputError(f"prune: sparsity {self.sparsity} is not at least 0 and below 1")
        if self.criterion not in CRITERIA:
            raise InputError(f"prune: no criterion '{self.criterion}'; there is {', '.join(CRITERIA)}")
        if self.samples < 1:
            raise InputError(f"prune: samples {self.samples} is not at least 1")

    def run(self, model: Model, context: Context) -> bool:
        """Prune the chosen layers of `model`; True if a weight changed."""
        chosen = choose_layers(find_layers(model, context.decline), self.layers, self.skip)
        masks = self._masks(chosen, model, context)
        hit = [bool(np.any(x.weight.values[m])) for x, m in zip(chosen, masks, strict=True)]
        before = model.copy() if self.repair != "none" and any(hit) else None
        for layer, mask, changes in zip(chosen, masks, hit, strict=True):
            if changes:
                layer.weight.values = np.where(mask, layer.weight.dtype.type(0), layer.weight.values)
                model.changed = True
        if before is not None:
            repair(before, model, self.repair, {}, context, self.samples)
        context.facts.update(_sparsities(chosen))
        return any(hit)

    def _masks(self, layers: list[Layer], model: Model, context: Context) -> list[Mask]:
        """Which weights of each layer become zero."""
        scorer = Scorer(self.criterion, model, [(x.node, x.index) for x in layers], context)
        scores = []
        for layer in layers:
            found = scorer.scores(layer.node, layer.index)
            assert found is not None
            scores.append(arranged(layer.node, layer.index, np.where(layer.weight.values == 0, 0, found)))
        masks = Pattern.parse(self.pattern).masks(scores, self.sparsity, self.scope == "global")
        pairs = zip(layers, masks, strict=True)
        return [restored(x.node, x.index, mask, x.weight.values.shape) for x, mask in pairs]


def _sparsities(layers: list[Layer]) -> dict[str, Any]:
    """`sparsity`: share of zeros over all `layers`; `layers`: weights, zeros and their share, by layer."""
    sizes = [layer.weight.values.size for layer in layers]
    zeros = [size - np.count_nonzero(x.weight.values) for x, size in zip(layers, sizes, strict=True)]
    rows = {
        layer.name: {"weights": size, "zeros": int(zero), "sparsity": float(zero / max(size, 1))}
        for layer, size, zero in zip(layers, sizes, zeros, strict=True)
    }
    return {"sparsity": float(sum(zeros) / max(sum(sizes), 1)), "layers": rows}
