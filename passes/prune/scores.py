"""The scores of a model's weights by a criterion, whatever statistics that needs."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import onnx_graphsurgeon as gs
from numpy.typing import NDArray

from optc.models.model import Model
from optc.passes.base import Context
from optc.passes.prune.activations import Weight, activation_norms
from optc.passes.prune.criteria import CRITERIA

Array = NDArray[Any]


class Scorer:
    """Scores weights by the criterion called `name`; gathers what that needs for all `weights` at once."""

    def __init__(self, name: str, model: Model, weights: Sequence[Weight], context: Context) -> None:
        self._criterion = CRITERIA[name]
        self._rng = np.random.default_rng(context.seed)
        self._norms: dict[tuple[int, int], Array] = {}
        if self._criterion.needs == "norms":
            self._norms = activation_norms(model, weights, context)

    def scores(self, node: gs.Node, index: int) -> Array | None:
        """The scores of the weight at input `index` of `node`; None where the criterion has none for it."""
        weight = node.inputs[index].values
        if self._criterion.needs == "uniform":
            return self._criterion.scores(weight, {"uniform": self._rng.random(weight.shape)})
        if self._criterion.needs == "norms":
            norms = self._norms.get((id(node), index))
            return None if norms is None else self._criterion.scores(weight, {"norms": norms})
        return self._criterion.scores(weight, {})
