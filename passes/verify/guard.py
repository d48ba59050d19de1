"""The guard: no gain, no change."""

from __future__ import annotations

from collections.abc import Callable

from optc.models.model import Model
from optc.passes.base import Lossy, Pass
from optc.passes.cost import Cost
from optc.passes.pipeline import Snapshot, Step, Watcher
from optc.passes.verify.inputs import input_tensors

SLACK = 1.05
"""An exact pass loses nothing, so it stays unless it is slower by more than measurement noise."""

_ROUNDS = 3


class GuardWatcher(Watcher):
    """Rolls a pass back whose result does not run faster.

    A lossy pass has to be faster, since it gives something up. An exact pass gives nothing up and prepares
    later ones: it goes back only where it is slower by more than 5%. A pass that changes input shapes
    changes the work itself and is not judged.
    """

    needs_before = True

    def __init__(self, cost: Callable[[Model], Cost]) -> None:
        """`cost`: what the target takes for a model, measured or estimated."""
        self._cost = cost

    def watch(self, p: Pass, before: Snapshot, after: Model, step: Step) -> None:
        """Put `after` back to `before` and note why in `step`, where the change does not pay."""
        if not step.changed or _signature(before.model) != _signature(after):
            return
        old, new = self._compare(before.model, after)
        ratio = new.ratio(old)
        if ratio is None or (ratio < 1 if isinstance(p.contract, Lossy) else ratio <= SLACK):
            return
        after.replace(before.proto)
        step.changed = False
        step.rolled_back = f"{_text(new)} after, {_text(old)} before ({new.source})"

    def _compare(self, before: Model, after: Model) -> tuple[Cost, Cost]:
        """The cheapest of several alternating measurements of each, or one estimate of each."""
        pairs = [(self._cost(before), self._cost(after))]
        while pairs[0][0].measured and len(pairs) < _ROUNDS:
            pairs.append((self._cost(before), self._cost(after)))
        return min((a for a, _ in pairs), key=_key), min((b for _, b in pairs), key=_key)


def _key(cost: Cost) -> float:
    return cost.seconds if cost.seconds is not None else float(cost.cycles or 0)


def _text(cost: Cost) -> str:
    return f"{cost.seconds * 1e3:.3g} ms" if cost.seconds is not None else f"{cost.cycles} cycles"


def _signature(model: Model) -> list[tuple[str, str]]:
    return [(t.name, str(t.shape)) for t in input_tensors(model)]
