"""Prune weights: the least important ones become zero; shapes stay."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, ClassVar, Literal

import numpy as np
from numpy.typing import NDArray

from optc.models.errors import InputError
from optc.models.model import Model
from optc.passes.base import Context, Contract, Lossy
from optc.passes.prune.allocate import Work, cheapest, same_shares
from optc.passes.prune.blocks import Blocks
from optc.passes.prune.criteria import CRITERIA
from optc.passes.prune.layers import Layer, choose_layers, find_layers
from optc.passes.prune.masks import Mask
from optc.passes.prune.pattern import Pattern, arranged, restored
from optc.passes.prune.repair import Repair, repair
from optc.passes.prune.scores import Scorer
from optc.passes.prune.sensitivity import measured_prices

Array = NDArray[Any]


@dataclass(frozen=True)
class Prune:
    """Set the least important weights of Conv, ConvTranspose, Gemm and MatMul to zero; shapes stay.

    `pattern`: single weights, N of M neighbours along the channels that are summed stay (`2:4`), or blocks of
    output by summed channels go together (`16x16`). Either the share `sparsity` of the weights or blocks, to
    the nearest whole number, is zero afterwards (half, where nothing is said), or weights or blocks go until
    the share `macs` of the model's multiply-accumulates remains: those with a zero weight are none, and a
    weight counts as often as it is used. N:M says itself how many. What was zero before counts, and stays.

    `criterion`: how much a weight matters. `allocation`: the same share of each layer (`uniform`), or what
    matters least wherever it is: by the criterion (`global`), or by how far outputs move on calibration
    samples when a layer loses some (`sensitivity`); with `macs`, what matters least for the
    multiply-accumulates it saves. `layers`, `skip`: name patterns of what is, and is not, pruned. `repair`:
    re-estimate the biases, or all remaining weights, of each layer from `samples` calibration samples.

    The report gives the sparsity of each layer and of all together, and with `macs` the share that is left.
    Raises `InputError` for bad options, for a pattern of names that matches no layer, where calibration
    samples are needed and missing, and where `macs` cannot be reached or shapes are not known.
    """

    name: ClassVar[str] = "prune"
    contract: ClassVar[Contract] = Lossy("the weights that matter least")

    criterion: Literal["magnitude", "magnitude-l2", "activation", "random"] = "magnitude"
    sparsity: float | None = None
    macs: float | None = None
    pattern: str = "single"
    allocation: Literal["uniform", "global", "sensitivity"] = "uniform"
    layers: tuple[str, ...] = ()
    skip: tuple[str, ...] = ()
    repair: Repair = "none"
    samples: int = 128

    def __post_init__(self) -> None:
        """Check the options."""
        if self.sparsity is not None and not 0 <= self.sparsity < 1:
            raise InputError(f"prune: sparsity {self.sparsity} is not at least 0 and below 1")
        if self.macs is not None and not 0 < self.macs <= 1:
            raise InputError(f"prune: macs {self.macs} is not above 0 and at most 1")
        if self.sparsity is not None and self.macs is not None:
            raise InputError("prune: sparsity and macs both say how much goes; give one of them")
        if Pattern.parse(self.pattern).of and (
            self.allocation != "uniform" or (self.sparsity, self.macs) != (None, None)
        ):
            raise InputError(
                f"prune: pattern '{self.pattern}' says itself what goes; leave out allocation, sparsity, macs"
            )
        if self.criterion not in CRITERIA:
            raise InputError(f"prune: no criterion '{self.criterion}'; there is {', '.join(CRITERIA)}")
        if self.samples < 1:
            raise InputError(f"prune: samples {self.samples} is not at least 1")

    def run(self, model: Model, context: Context) -> bool:
        """Prune the chosen layers of `model`; True if a weight changed."""
        layers = find_layers(model, context.decline)
        chosen = choose_layers(layers, self.layers, self.skip)
        work = Work(model, layers) if self.macs is not None else None
        masks = self._masks(chosen, work, model, context)
        hit = [bool(np.any(x.weight.values[m])) for x, m in zip(chosen, masks, strict=True)]
        before = model.copy() if self.repair != "none" and any(hit) else None
        for layer, mask, changes in zip(chosen, masks, hit, strict=True):
            if changes:
                layer.weight.values = np.where(mask, layer.weight.dtype.type(0), layer.weight.values)
                model.changed = True
        if before is not None:
            repair(before, model, self.repair, {}, context, self.samples)
        context.facts.update(_sparsities(chosen))
        if work is not None:
            context.facts["macs"] = float(work.left() / max(work.first, 1))
        return any(hit)

    def _masks(self, layers: list[Layer], work: Work | None, model: Model, context: Context) -> list[Mask]:
        """Which weights of each layer become zero."""
        scorer = Scorer(self.criterion, model, [(x.node, x.index) for x in layers], context)
        scores = []
        for layer in layers:
            found = scorer.scores(layer.node, layer.index)
            assert found is not None
            scores.append(arranged(layer.node, layer.index, np.where(layer.weight.values == 0, 0, found)))
        pattern = Pattern.parse(self.pattern)
        if pattern.of:
            masks = [pattern.outside(s) for s in scores]
            pairs = zip(layers, masks, strict=True)
            return [restored(x.node, x.index, mask, x.weight.values.shape) for x, mask in pairs]
        blocks = [Blocks(x, pattern, s) for x, s in zip(layers, scores, strict=True)]
        counts = self._counts(blocks, work, model, context)
        return [b.mask(count) for b, count in zip(blocks, counts, strict=True)]

    def _counts(self, blocks: list[Blocks], work: Work | None, model: Model, context: Context) -> list[int]:
        """How many blocks of each layer become zero."""
        share = 0.5 if self.sparsity is None else self.sparsity
        sizes = [b.sums.size for b in blocks]
        if work is None and self.allocation == "uniform":
            return [round(share * size) for size in sizes]
        if work is None:
            amount = float(round(share * sum(sizes)))
            costs = [np.ones(size) for size in sizes]
        else:
            assert self.macs is not None
            amount = work.left() - self.macs * work.first
            costs = [b.weights * work.uses(b.layer) for b in blocks]
            if amount > sum(c.sum() for c in costs):
                raise InputError(f"prune: macs {self.macs} is less than what the other layers need")
        if amount <= sum(c[: b.gone].sum() for b, c in zip(blocks, costs, strict=True)):
            return [0] * len(blocks)
        prices = self._prices(blocks, work, model, context)
        for price, each in zip(prices, blocks, strict=True):
            price[: each.gone] = -np.inf
        return cheapest(prices, costs, amount)

    def _prices(self, blocks: list[Blocks], work: Work | None, model: Model, context: Context) -> list[Array]:
        """By which blocks are chosen, the lowest first; of each layer in the order in which they go."""
        if self.allocation == "uniform":
            return same_shares(blocks)
        if self.allocation == "global":
            prices = [b.shares.copy() for b in blocks]
        else:
            prices = measured_prices(model, blocks, self.repair, self.samples, context)
        if work is None:
            return prices
        return [p / work.uses(b.layer) for p, b in zip(prices, blocks, strict=True)]


def _sparsities(layers: list[Layer]) -> dict[str, Any]:
    """`sparsity`: share of zeros over all `layers`; `layers`: weights, zeros and their share, by layer."""
    sizes = [layer.weight.values.size for layer in layers]
    zeros = [size - np.count_nonzero(x.weight.values) for x, size in zip(layers, sizes, strict=True)]
    rows = {
        layer.name: {"weights": size, "zeros": int(zero), "sparsity": float(zero / max(size, 1))}
        for layer, size, zero in zip(layers, sizes, zeros, strict=True)
    }
    return {"sparsity": float(sum(zeros) / max(sum(sizes), 1)), "layers": rows}
