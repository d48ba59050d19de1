"""How far a model's outputs are from those of the model that it was."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from optc.models.model import Model
from optc.models.session import Arrays, Session

Array = NDArray[Any]

SAMPLES = 16
"""Calibration samples on which outputs are compared."""


class Clean:
    """The outputs of a model for `feeds`, to compare others with; the float ones, where there are some."""

    def __init__(self, model: Model, feeds: Sequence[Arrays]) -> None:
        self._feeds = feeds
        self._outputs = self._run(model)
        self._power = sum(float(np.sum(np.square(a, dtype=np.float64))) for a in self._outputs)

    def noise(self, changed: Model) -> float:
        """The power of the outputs' difference as a share of the power of the outputs."""
        pairs = zip(self._outputs, self._run(changed), strict=True)
        moved = sum(float(np.sum(np.square(a - b, dtype=np.float64))) for a, b in pairs)
        return moved / max(self._power, 1e-300)

    def _run(self, model: Model) -> list[Array]:
        session = Session(model, optimize=True)
        return [_floats(session.run(f)) for f in self._feeds]


def _floats(outputs: Arrays) -> Array:
    numbers = [np.asarray(v).reshape(-1) for v in outputs.values() if np.asarray(v).dtype.kind in "fiub"]
    return np.concatenate([v for v in numbers if v.dtype.kind == "f"] or numbers or [np.zeros(1)])
