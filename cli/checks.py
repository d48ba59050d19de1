"""What a verb runs its passes under, from its options."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from optc.models.model import Model
    from optc.models.source import Source
    from optc.passes.base import Progress
    from optc.passes.cost import Cost
    from optc.passes.pipeline import Watcher
    from optc.passes.verify.checked import Checks, Outcome


def checks_of(
    options: dict[str, Any],
    source: Source,
    cost: Callable[[Model], Cost],
    watchers: Sequence[Watcher],
    progress: Progress | None,
    align: int = 16,
) -> Checks:
    """The checks that the shared options ask for; data that they do not name is the source's own."""
    from optc.models.data import Samples, load_arrays
    from optc.passes.base import NoProgress
    from optc.passes.verify.checked import Checks

    calib, evaluation, inputs = options["calib"], options["evaluation"], options["inputs"]
    return Checks(
        calibration=Samples(calib) if calib else source.calibration,
        evaluation=Samples(evaluation) if evaluation else source.evaluation,
        metric=options["metric"] or source.metric or "top1",
        inputs=load_arrays(inputs) if inputs else None,
        verify=options["verify"],
        guard=options["guard"],
        cost=cost,
        align=align,
        seed=options["seed"],
        watchers=watchers,
        progress=progress or NoProgress(),
    )


def print_outcome(outcome: Outcome, verbose: bool) -> None:
    """The tables of what passes did."""
    from optc.cli.tables import print_accuracy, print_steps, print_summary, print_verification

    print_summary(outcome.before, outcome.after)
    print_accuracy(outcome.scores)
    print_steps(outcome.steps, verbose)
    if outcome.rows:
        print_verification(outcome.rows, verbose, not outcome.feeds.given)
