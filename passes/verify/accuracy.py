"""Accuracy along a pipeline: of the input, after each lossy pass, and of the output."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from optc.models.model import Model
from optc.passes.base import Lossy, Pass, Score
from optc.passes.pipeline import Snapshot, Step, Watcher
from optc.passes.verify.metrics import Change, change


@dataclass(frozen=True)
class Scored:
    """The accuracy at one place: `name` is a pass's text, "(input)" or "(output)".

    `since_last`, `since_input`: how far it moved since the line before and since the input, paired sample by
    sample; None for the input.
    """

    name: str
    score: Score
    since_last: Change | None = None
    since_input: Change | None = None


class AccuracyWatcher(Watcher):
    """Scores the model after each lossy pass that changed something; `rows` fills as the passes go by."""

    def __init__(self, evaluate: Callable[[Model], Score], model: Model) -> None:
        """`model` is the one that the pipeline is to change; it is scored now."""
        self._evaluate = evaluate
        self.rows = [Scored("(input)", evaluate(model))]

    def watch(self, p: Pass, before: Snapshot, after: Model, step: Step) -> None:
        """Add the pass's line, where it may have cost accuracy."""
        if step.changed and isinstance(p.contract, Lossy):
            self._add(step.text, self._evaluate(after))

    def finish(self, model: Model) -> None:
        """Add the line of the output, unless the last one tells of the same `model`."""
        score = self._evaluate(model)
        if score is not self.rows[-1].score:
            self._add("(output)", score)

    def _add(self, name: str, score: Score) -> None:
        first, last = self.rows[0].score, self.rows[-1].score
        self.rows.append(Scored(name, score, change(last, score), change(first, score)))
