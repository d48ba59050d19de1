"""How many blocks each layer loses, so that a share of them, or of the multiply-accumulates, is gone."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from optc.models.errors import InputError
from optc.models.model import Model
from optc.passes.analysis.counts import node_macs
from optc.passes.prune.blocks import Blocks
from optc.passes.prune.layers import Layer

Array = NDArray[Any]


def cheapest(prices: Sequence[Array], costs: Sequence[Array], amount: float) -> list[int]:
    """How many of each sequence to take, so that all that are taken cost `amount`, or hardly more.

    Those of the lowest `prices` (which ascend in each sequence) are taken, and no more than needed; of equal
    prices the first. All, where they do not cost as much.
    """
    if amount <= 0 or not prices:
        return [0] * len(prices)
    order = np.argsort(np.concatenate(prices), kind="stable")
    reached = np.cumsum(np.concatenate(costs)[order], dtype=np.float64)
    owner = np.repeat(np.arange(len(prices)), [p.size for p in prices])[order]
    # Sums of MACs are whole numbers, of shares of them not quite.
    taken = int(np.searchsorted(reached, amount * (1 - 1e-9))) + 1
    return [int(n) for n in np.bincount(owner[:taken], minlength=len(prices))]


def same_shares(blocks: Sequence[Blocks]) -> list[Array]:
    """Prices by which every layer loses the same share."""
    return [(np.arange(b.sums.size) + 0.5) / b.sums.size for b in blocks]


class Work:
    """The multiply-accumulates of a model's main graph, of which those with a zero weight are none.

    `first`: all of them. Free dimensions count as 1. Raises `InputError` where the shape that a layer makes
    is not known.
    """

    def __init__(self, model: Model, layers: Sequence[Layer]) -> None:
        macs = node_macs(model)
        self.first = sum(macs.values())
        self._layers = layers
        self._uses = {id(x.weight): _uses(x, macs) for x in layers}

    def left(self) -> float:
        """The multiply-accumulates with the layers' weights as they are."""
        zeros = (x.weight.values.size - np.count_nonzero(x.weight.values) for x in self._layers)
        return self.first - sum(self.uses(x) * int(n) for x, n in zip(self._layers, zeros, strict=True))

    def uses(self, layer: Layer) -> float:
        """How often each weight of a layer is multiplied in a run of the model."""
        return self._uses[id(layer.weight)]


def _uses(layer: Layer, macs: dict[str, int]) -> float:
    total = 0
    for node in layer.weight.outputs:
        if node.outputs[0].name not in macs:
            raise InputError(
                f"prune: macs: the shape that '{layer.name}' makes is not known; run infer-shapes, or prune "
                "by sparsity"
            )
        total += macs[node.outputs[0].name]
    return total / max(int(layer.weight.values.size), 1)
