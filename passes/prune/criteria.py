"""How much each weight matters: the pruning criteria.

A criterion is a function of a weight and of statistics gathered for its layer, to scores of the weight's
shape; the lowest scores are pruned first. A criterion of one's own, such as one by gradients, is an entry of
`CRITERIA`.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

Array = NDArray[Any]
Statistics = Mapping[str, Array]
"""What is known of a layer beside its weight, by name (empty for a criterion that needs nothing).

`norms`: of the activations that each weight multiplies, broadcasting to the weight's shape; `uniform`: random
numbers in [0, 1), of the weight's shape.
"""


@dataclass(frozen=True)
class Criterion:
    """`scores` of a weight's shape, from the weight and the statistics that it `needs`."""

    scores: Callable[[Array, Statistics], Array]
    needs: Literal["norms", "uniform"] | None = None


def magnitude_scores(weight: Array, statistics: Statistics) -> Array:
    """`|w|` elementwise: the smallest weights matter least (Han et al. 2015, arXiv 1506.02626)."""
    return np.abs(weight)


def squared_scores(weight: Array, statistics: Statistics) -> Array:
    """`w ** 2` in float64: summed over a block or a channel, its squared L2 norm."""
    return np.square(weight.astype(np.float64))


def activation_scores(weight: Array, statistics: Statistics) -> Array:
    """`|w| * norm(x)`, x what the weight multiplies: Wanda (Sun et al. 2023, arXiv 2306.11695)."""
    return np.asarray(np.abs(weight) * statistics["norms"])


def random_scores(weight: Array, statistics: Statistics) -> Array:
    """Random numbers: what any criterion has to be better than."""
    return statistics["uniform"]


CRITERIA: dict[str, Criterion] = {
    "magnitude": Criterion(magnitude_scores),
    "magnitude-l2": Criterion(squared_scores),
    "activation": Criterion(activation_scores, "norms"),
    "random": Criterion(random_scores, "uniform"),
}
"""Criterion name, as the option has it, and function."""
