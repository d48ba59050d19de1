"""Running a pipeline with everything around it: data, accuracy, verification, the guard."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

from optc.models.data import Samples
from optc.models.model import Model
from optc.models.session import Arrays
from optc.passes.analysis.counts import Counts, count
from optc.passes.base import Context, NoProgress, Pass, Progress, Score
from optc.passes.cost import Cost
from optc.passes.pipeline import Pipeline, Step, Watcher
from optc.passes.verify.accuracy import AccuracyWatcher, Scored
from optc.passes.verify.evaluate import Evaluator
from optc.passes.verify.feeds import Feeds, check_samples
from optc.passes.verify.guard import GuardWatcher
from optc.passes.verify.watcher import Row, VerifyWatcher


@dataclass(frozen=True)
class Checks:
    """What a pipeline is run with.

    `calibration`: for passes that need samples; `evaluation`: labelled samples, scored by `metric` before
    and after; `inputs`: arrays to verify on; `verify`, `guard`: the watchers; `cost`: what the guard
    compares; `align`: the width that channels are rounded to.
    """

    calibration: Samples | None = None
    evaluation: Samples | None = None
    metric: str = "top1"
    inputs: Arrays | None = None
    verify: bool = False
    guard: bool = False
    cost: Callable[[Model], Cost] | None = None
    align: int = 16
    seed: int = 0
    watchers: Sequence[Watcher] = ()
    progress: Progress = field(default_factory=NoProgress)


@dataclass
class Outcome:
    """What a pipeline did.

    `rows`: the verification table, empty without `verify`; `scores`: the table of accuracy, empty without
    labelled samples.
    """

    steps: list[Step]
    rows: list[Row]
    before: Counts
    after: Counts
    scores: list[Scored]
    feeds: Feeds

    @property
    def score_before(self) -> Score | None:
        """The accuracy of the input, or None."""
        return self.scores[0].score if self.scores else None

    @property
    def score_after(self) -> Score | None:
        """The accuracy of the output, or None."""
        return self.scores[-1].score if self.scores else None


def run_checked(passes: Sequence[Pass], model: Model, checks: Checks) -> Outcome:
    """Run `passes` on `model` in place under `checks`.

    Raises `InputError` for data that does not fit the model, `PassError` for a pass that fails,
    `VerifyError` for a broken contract.
    """
    if checks.calibration:
        check_samples(model, checks.calibration, "calibration")
    evaluate = _evaluator(model, checks)
    feeds = Feeds(checks.inputs, checks.evaluation, checks.calibration, checks.seed)
    verifier = VerifyWatcher(feeds, evaluate) if checks.verify else None
    before = count(model)
    accuracy = AccuracyWatcher(evaluate, model) if evaluate else None
    watchers: list[Watcher] = list(checks.watchers)
    if checks.guard and checks.cost:
        watchers.append(GuardWatcher(checks.cost))  # first, so that what it takes back is not verified
    watchers += [w for w in (verifier, accuracy) if w]
    steps = Pipeline(tuple(passes)).run(model, _context(checks, evaluate), watchers)
    if accuracy:
        accuracy.finish(model)
    rows, scores = verifier.rows if verifier else [], accuracy.rows if accuracy else []
    return Outcome(steps, rows, before, count(model), scores, feeds)


def _evaluator(model: Model, checks: Checks) -> Evaluator | None:
    if checks.evaluation is None:
        return None
    check_samples(model, checks.evaluation, "evaluation")
    return Evaluator(checks.evaluation, checks.metric, checks.progress)


def _context(checks: Checks, evaluate: Evaluator | None) -> Context:
    return Context(
        calibration=checks.calibration,
        evaluate=evaluate,
        cost=checks.cost,
        align=checks.align,
        seed=checks.seed,
        progress=checks.progress,
    )
