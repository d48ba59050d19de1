"""The guard: no gain, no change."""

from __future__ import annotations

import statistics
from collections.abc import Callable

from optc.models.model import Model
from optc.passes.base import Contract, Lossy, Pass
from optc.passes.cost import Cost
from optc.passes.pipeline import Snapshot, Step, Watcher
from optc.passes.verify.inputs import input_tensors

GAIN = 0.95
"""A lossy pass has to bring a measured time to at most this share: less cannot be told from noise."""

SLACK = 1.1
"""An exact pass goes back only where it takes more than this share of the time, in every round."""

_ROUNDS = (5, 15)
"""Rounds of measuring, and how many there may be for a lossy pass where they do not agree."""


class GuardWatcher(Watcher):
    """Rolls a pass back whose result does not run faster.

    A lossy pass has to be faster, since it gives something up. An exact pass gives nothing up and prepares
    later ones: it goes back only where it is clearly slower. A pass that changes input shapes changes the
    work itself and is not judged. Measurements alternate between before and after over several rounds, over
    more of them where they do not agree.
    """

    needs_before = True

    def __init__(self, cost: Callable[[Model], Cost]) -> None:
        """`cost`: what the target takes for a model, measured or estimated."""
        self._cost = cost

    def watch(self, p: Pass, before: Snapshot, after: Model, step: Step) -> None:
        """Put `after` back to `before` and note why in `step`, where the change does not pay."""
        if not step.changed or _signature(before.model) != _signature(after):
            return
        pairs = self._measure(before.model, after, _ROUNDS[isinstance(p.contract, Lossy)])
        old, new = (min(costs, key=_key) for costs in zip(*pairs, strict=True))
        known = _ratios([*pairs, (old, new)])
        if not known or _pays(p.contract, known, new.measured):
            return
        after.replace(before.proto)
        step.changed = False
        why = "not faster beyond noise" if isinstance(p.contract, Lossy) and new.measured else "not faster"
        step.rolled_back = f"{why}: {_text(new)} after, {_text(old)} before ({new.source})"

    def _measure(self, before: Model, after: Model, most: int) -> list[tuple[Cost, Cost]]:
        """Costs before and after: several rounds where they are measured, one where they are estimated.

        `most`: how many rounds there may be. What is measured first changes from round to round, so that a
        machine that slows down favours none.
        """
        pairs = [(self._cost(before), self._cost(after))]
        while pairs[0][0].measured and (len(pairs) < _ROUNDS[0] or len(pairs) < most and _disagree(pairs)):
            if len(pairs) % 2:
                new, old = self._cost(after), self._cost(before)
            else:
                old, new = self._cost(before), self._cost(after)
            pairs.append((old, new))
        return pairs


def _disagree(pairs: list[tuple[Cost, Cost]]) -> bool:
    """Whether there is a gain in some rounds and none in others."""
    return len({ratio <= GAIN for ratio in _ratios(pairs)}) > 1


def _ratios(pairs: list[tuple[Cost, Cost]]) -> list[float]:
    return [r for r in (new.ratio(old) for old, new in pairs) if r is not None]


def _pays(contract: Contract, ratios: list[float], measured: bool) -> bool:
    """Whether a pass may stay; `ratios` after to before: of every round, and last of the fastest of all."""
    if not isinstance(contract, Lossy):
        return min(ratios) <= SLACK
    if not measured:
        return ratios[-1] < 1
    return ratios[-1] <= GAIN and statistics.median(ratios) <= GAIN


def _key(cost: Cost) -> float:
    return cost.seconds if cost.seconds is not None else float(cost.cycles or 0)


def _text(cost: Cost) -> str:
    return f"{cost.seconds * 1e3:.3g} ms" if cost.seconds is not None else f"{cost.cycles} cycles"


def _signature(model: Model) -> list[tuple[str, str]]:
    return [(t.name, str(t.shape)) for t in input_tensors(model)]
