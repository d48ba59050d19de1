"""How many multiply-accumulates a model needs once channels are gone, without building it."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from math import prod
from typing import Any

import numpy as np
import onnx_graphsurgeon as gs
from numpy.typing import NDArray

from optc.models.model import Model
from optc.passes.analysis.shapes import rank_of
from optc.passes.canonicalize.edit import standard
from optc.passes.prune.structured.axes import Place
from optc.passes.prune.structured.families import Channels

Array = NDArray[Any]


class Work:
    """MACs of Conv, ConvTranspose, Gemm and MatMul as a function of how many channels each family has lost.

    Free dimensions count as 1.
    """

    def __init__(self, model: Model, channels: Channels) -> None:
        self._columns: dict[int, int] = {}
        self._sizes: list[int] = []
        self._layers: list[tuple[int, list[int]]] = []
        for node in model.view.nodes:
            if standard(node) and node.op in ("Conv", "ConvTranspose", "Gemm", "MatMul"):
                self._add(list(_extents(node)), channels)
        self._counts = np.zeros((len(channels.families), len(self._sizes)))
        for row, family in enumerate(channels.families):
            for first, column in self._columns.items():
                on = channels.components[first : first + self._sizes[column]]
                self._counts[row, column] = np.count_nonzero(on == family.components[0])

    def _add(self, extents: list[tuple[Place, int]], channels: Channels) -> None:
        factors, columns = [], []
        for place, axis in extents:
            shape = place.shape
            size = shape[axis] if shape is not None and axis < len(shape) else None
            factors.append(size if isinstance(size, int) else 1)
            atoms = channels.axes.known(place, axis)
            if atoms is not None and atoms.size:
                first = int(atoms[0])
                if first not in self._columns:
                    self._columns[first] = len(self._sizes)
                    self._sizes.append(atoms.size)
                columns.append(self._columns[first])
        self._layers.append((prod(factors), columns))

    def macs(self, lost: Sequence[int]) -> float:
        """The MACs where family `i` has lost `lost[i]` channels."""
        share = 1 - np.asarray(lost, np.float64) @ self._counts / np.asarray(self._sizes or [1])
        return float(sum(macs * prod(share[c] for c in columns) for macs, columns in self._layers))


def _extents(node: gs.Node) -> Iterator[tuple[Place, int]]:
    """The axes whose sizes multiply to the node's MACs (see `analysis.counts`)."""
    x, weight, y = Place(node, 0), Place(node, 1), Place(node, 0, True)
    if node.op == "ConvTranspose":
        yield from ((x, axis) for axis in range(rank_of(x.tensor) or 0))
        yield from ((weight, axis) for axis in range(1, rank_of(weight.tensor) or 0))
        return
    yield from ((y, axis) for axis in range(rank_of(y.tensor) or 0))
    if node.op == "Conv":
        yield from ((weight, axis) for axis in range(1, rank_of(weight.tensor) or 0))
    else:
        yield x, 0 if node.attrs.get("transA", 0) else (rank_of(x.tensor) or 1) - 1
