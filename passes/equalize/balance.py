"""The scales at which what makes channels and what reads them have the same ranges, channel by channel."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from optc.passes.equalize.groups import Found, Group
from optc.passes.equalize.scaled import Slot
from optc.passes.prune.structured.axes import Atoms

Array = NDArray[Any]
Doubles = NDArray[np.float64]

LARGEST = float(np.log(1e3))
"""The logarithm of the largest scale; a channel that wants more is as good as dead on one side, and stays."""

_SWEEPS = 500
_STILL = 5e-3
_SETTLED = 1e-3
"""How far logarithms move in a sweep: below the first nothing is begun, below the second all is done."""


class Balance:
    """The logarithms of all channels' scales, by component, and the ranges that they lead to.

    `peaks`: the largest magnitudes of values, by name and axis; where given, they stand for the makers'
    ranges.
    """

    def __init__(self, found: Found, peaks: Mapping[tuple[str, int], Array] | None = None) -> None:
        self.logs = np.zeros(found.components.size)
        self.groups = found.groups
        self._found, self._peaks = found, peaks
        self._weights = _weights(found)

    def settle(self, alpha: float) -> bool:
        """Move group after group, until none moves any more, to `r1 ** alpha = r2 ** (1 - alpha)`.

        A common factor of a group's scales changes no code, so their median stays 1. Returns False, and all
        scales are 1, where that is so already but for what is not worth moving.
        """
        for sweep in range(_SWEEPS):
            farthest = max((self._move(group, alpha) for group in self.groups), default=0.0)
            if sweep == 0 and farthest < _STILL:
                self.logs[:] = 0
                return False
            if farthest < _SETTLED:
                break
        return True

    def _move(self, group: Group, alpha: float) -> float:
        """Bring one group nearer; the farthest that a channel's logarithm moved."""
        made, read = self.ranges(group)
        alive = (made > 0) & (read > 0)
        if not alive.any():
            return 0.0
        old = self.logs[group.channels]
        step = np.zeros(old.shape)
        step[alive] = alpha * np.log(made[alive]) - (1 - alpha) * np.log(read[alive])
        step[alive] -= np.median((old + step)[alive])
        wanted = old + step
        new = np.where(alive & (np.abs(wanted) <= LARGEST), wanted, 0.0)
        if _meets_itself(group):  # two channels that are scaled against each other would both go all the way
            new = (new + old) / 2
        self.logs[group.channels] = new
        return float(np.abs(new - old).max())

    def ranges(self, group: Group) -> tuple[Doubles, Doubles]:
        """The largest magnitudes on the makers' side and in the readers' weights, for each channel."""
        made, read = np.zeros(self.logs.size), np.zeros(self.logs.size)
        for slot in (*group.makers, *group.readers):
            if slot.weight and not slot.makes:
                self._widen_by_weight(read, slot)
            if slot.weight and not slot.makes and self._peaks is not None:
                self._widen_by_value(made, slot, self._peaks)
            if slot.weight and slot.makes and self._peaks is None:
                self._widen_by_weight(made, slot)
        return made[group.channels], read[group.channels]

    def _widen_by_weight(self, ranges: Doubles, slot: Slot) -> None:
        weight = self._weights[slot.constant]
        channels = self._found.components[slot.atoms]
        channels = channels.reshape(*[1] * (weight.magnitudes.ndim - channels.ndim), *channels.shape)
        alone = tuple(axis for axis, size in enumerate(channels.shape) if size == 1)
        found = weight.scaled(self.logs).max(axis=alone, keepdims=True, initial=0)
        np.maximum.at(ranges, np.broadcast_to(channels, found.shape), found)

    def _widen_by_value(self, ranges: Doubles, slot: Slot, peaks: Mapping[tuple[str, int], Array]) -> None:
        atoms = self._found.axes.atoms(slot.value, slot.axis)
        channels = self._found.components[atoms]
        found = peaks[slot.value.tensor.name, slot.axis]
        np.maximum.at(ranges, channels, found * np.exp(-self.logs[channels]))


@dataclass(frozen=True, eq=False)
class _Weight:
    """The magnitudes of a weight, largest over the axes that have no scales, and the channels they are of."""

    magnitudes: Doubles
    makers: tuple[Atoms, ...]
    readers: tuple[Atoms, ...]

    def scaled(self, logs: Doubles) -> Doubles:
        """The magnitudes at the scales of these logarithms."""
        found = self.magnitudes
        for channels in self.readers:
            found = found * np.exp(logs[channels])
        for channels in self.makers:
            found = found / np.exp(logs[channels])
        return found


def _weights(found: Found) -> dict[tuple[int, int], _Weight]:
    """The weights of all layers, by `Slot.constant`."""
    slots: dict[tuple[int, int], list[Slot]] = {}
    for slot in found.slots:
        if slot.weight:
            slots.setdefault(slot.constant, []).append(slot)
    return {key: _weight(found.components, of) for key, of in slots.items()}


def _weight(components: Atoms, slots: list[Slot]) -> _Weight:
    magnitudes = np.abs(slots[0].place.tensor.values.astype(np.float64))
    shape = np.broadcast_shapes(*(s.atoms.shape for s in slots))
    lead = magnitudes.ndim - len(shape)
    plain = tuple(axis for axis in range(magnitudes.ndim) if axis < lead or shape[axis - lead] == 1)
    return _Weight(
        magnitudes.max(axis=plain, keepdims=True, initial=0),
        tuple(components[s.atoms] for s in slots if s.makes),
        tuple(components[s.atoms] for s in slots if not s.makes),
    )


def _meets_itself(group: Group) -> bool:
    """Whether a weight both makes and reads channels of the group."""
    return bool({s.constant for s in group.makers if s.weight} & {s.constant for s in group.readers})
