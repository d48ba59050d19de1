"""How many channels each family loses, so that the model needs a given share of its MACs."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from numpy.typing import NDArray

from optc.passes.prune.structured.families import Family
from optc.passes.prune.structured.work import Work

Array = NDArray[Any]

_RATES = 256


def uniform(families: Sequence[Family], work: Work, target: float) -> list[int]:
    """The same share of each family, as far as its widths allow: the largest share that needs `target` MACs.

    What rounding leaves of `target` goes to the families that lost most. Returns how many channels each
    loses.
    """
    for rate in range(_RATES, -1, -1):
        lost = [_nearest(family, rate / _RATES) for family in families]
        if work.macs(lost) <= target:
            return _given_back(families, work, target, lost)
    return lost


def _nearest(family: Family, share: float) -> int:
    """How many channels go if about `share` stay."""
    size = family.components.size
    nearest: int = min([*family.widths(), size], key=lambda width: (abs(width - share * size), width))
    return size - nearest


def _given_back(families: Sequence[Family], work: Work, target: float, lost: list[int]) -> list[int]:
    """Let families grow by a step each, those that lost most first, while `target` allows it."""
    order = sorted(range(len(families)), key=lambda i: -lost[i] / families[i].components.size)
    for index in order:
        wider = list(lost)
        smaller = [n for n in _losses(families[index]) if n < lost[index]]
        if smaller:
            wider[index] = smaller[-1]
            if work.macs(wider) <= target:
                lost = wider
    return lost


def cheapest(families: Sequence[Family], work: Work, target: float, damage: Sequence[Array]) -> list[int]:
    """Greedily the step that does least damage for the MACs it saves, until `target` MACs are reached.

    `damage[i][n]`: what it costs to take `n` channels from family `i`, in any unit that all share. Returns
    how many channels each family loses.
    """
    lost = [0] * len(families)
    now = work.macs(lost)
    while now > target:
        best: tuple[float, int, int, float] | None = None
        for index, family in enumerate(families):
            more = next((n for n in _losses(family) if n > lost[index]), None)
            if more is None:
                continue
            macs = work.macs([*lost[:index], more, *lost[index + 1 :]])
            price = float(damage[index][more] - damage[index][lost[index]]) / max(now - macs, 1e-9)
            if macs < now and (best is None or price < best[0]):
                best = price, index, more, macs
        if best is None:
            return lost
        _, index, lost[index], now = best
    return lost


def _losses(family: Family) -> list[int]:
    """How many channels a family may lose, fewest first."""
    size = family.components.size
    return [0, *(size - width for width in reversed(family.widths()))]
