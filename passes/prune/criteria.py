"""How much each weight matters: the pruning criteria.

A criterion is a function of a weight and of statistics gathered for its layer, to scores of the weight's
shape; the lowest scores are pruned first.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

Array = NDArray[Any]
Statistics = Mapping[str, Array]
"""What is known of a layer beside its weight, by name (empty for a criterion that needs nothing)."""

Criterion = Callable[[Array, Statistics], Array]


def magnitude_scores(weight: Array, statistics: Statistics) -> Array:
    """`|w|` elementwise: the smallest weights matter least (Han et al. 2015, arXiv 1506.02626)."""
    return np.abs(weight)


CRITERIA: dict[str, Criterion] = {"magnitude": magnitude_scores}
"""Criterion name, as the option has it, and function."""
