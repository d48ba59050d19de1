"""Which indices of which axes of a graph's tensors stand for the same channel.

Every index along every axis of fixed size is an atom. Operators link atoms (a channel of a Relu's input and
of its output are one), or freeze them (a channel that a LayerNormalization averages over cannot go). Atoms
that hang together, directly or through others, go together or stay: the method of DepGraph (Fang et al. 2023,
arXiv 2301.12900), by index instead of by axis, so that Concat, Split, Flatten and heads need no special case.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import onnx_graphsurgeon as gs
from numpy.typing import NDArray

from optc.passes.analysis.shapes import Shape, shape_of

Atoms = NDArray[np.int64]


@dataclass(frozen=True)
class Place:
    """An input or output of a node."""

    node: gs.Node
    index: int
    output: bool = False

    @property
    def tensor(self) -> gs.Tensor:
        """The tensor that stands there."""
        return (self.node.outputs if self.output else self.node.inputs)[self.index]

    @property
    def shape(self) -> Shape | None:
        """Its shape; None where not even the rank is known."""
        return shape_of(self.tensor)


class Axes:
    """The atoms of a graph. Readers of one constant have atoms of their own: each may drop other channels."""

    def __init__(self) -> None:
        self._first: dict[tuple[int, ...], int] = {}
        self._ranges: list[tuple[int, int]] = []
        self._size = 0
        self._links: list[tuple[Atoms, Atoms]] = []
        self._reasons: dict[int, str] = {}
        self._channels = np.zeros(1024, np.bool_)

    def atoms(self, place: Place, axis: int) -> Atoms | None:
        """The atoms along an axis (counted from the front); None where its size is not fixed."""
        shape = place.shape
        size = shape[axis] if shape is not None and axis < len(shape) else None
        if not isinstance(size, int):
            return None
        key = _key(place, axis)
        if key not in self._first:
            self._first[key] = self._new(size)
            self._ranges.append((self._first[key], size))
        return np.arange(self._first[key], self._first[key] + size)

    def known(self, place: Place, axis: int) -> Atoms | None:
        """As `atoms`, None also where no operator has named the axis."""
        return self.atoms(place, axis) if _key(place, axis) in self._first else None

    def ranges(self) -> list[tuple[int, int]]:
        """First atom and size of every axis that has atoms."""
        return list(self._ranges)

    def _new(self, size: int) -> int:
        first = self._size
        self._size += size
        while self._size > self._channels.size:
            self._channels = np.concatenate([self._channels, np.zeros_like(self._channels)])
        return first

    def link(self, a: Atoms, b: Atoms) -> None:
        """Let `a[i]` and `b[i]` go together, for every i (they broadcast)."""
        a, b = (side.reshape(-1) for side in np.broadcast_arrays(a, b))
        self._links.append((a, b))
        either = self._channels[a] | self._channels[b]
        self._channels[a[either]] = self._channels[b[either]] = True

    def freeze(self, atoms: Atoms | None, reason: str) -> None:
        """Let `atoms` stay, and with them all that they are linked to."""
        if atoms is not None and atoms.size:
            mark = self._new(1)
            self._reasons[mark] = reason
            self._links.append((atoms, np.full(atoms.shape, mark)))

    def mark(self, atoms: Atoms) -> None:
        """Note that `atoms` are output channels of a layer, which `holds_channels` follows downstream."""
        self._channels[atoms] = True

    def holds_channels(self, atoms: Atoms) -> bool:
        """Whether some of `atoms` are known to be channels, by the links so far."""
        return bool(self._channels[atoms].any())

    def components(self) -> Atoms:
        """For each atom the smallest atom that it hangs together with."""
        found = np.arange(self._size)
        if not self._links:
            return found
        a, b = (np.concatenate(side) for side in zip(*self._links, strict=True))
        while True:
            least = np.minimum(found[a], found[b])
            if np.array_equal(least, found[a]) and np.array_equal(least, found[b]):
                return found
            for side in (a, b):
                np.minimum.at(found, found[side], least)
            found = found[found]

    def frozen(self, components: Atoms) -> dict[int, str]:
        """The components that must stay, and why: the first reason that was given."""
        reasons: dict[int, str] = {}
        for mark, reason in self._reasons.items():
            reasons.setdefault(int(components[mark]), reason)
        return reasons


def _key(place: Place, axis: int) -> tuple[int, ...]:
    if isinstance(place.tensor, gs.Constant):
        return id(place.node), place.index, axis
    return id(place.tensor), axis


def moved(components: Atoms, values: NDArray[Any]) -> NDArray[Any]:
    """`values` summed over each component: shape of `components`, the sum at its smallest atom."""
    total = np.zeros(components.shape, values.dtype)
    np.add.at(total, components, values)
    return total
