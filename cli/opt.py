"""`optc opt`: passes only, ONNX to ONNX."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from optc.cli.options import pipeline_text, shared_options
from optc.cli.settings import Settings, settings_of, verb
from optc.models.errors import InputError

if TYPE_CHECKING:
    from optc.models.source import Source
    from optc.passes.base import Progress
    from optc.passes.pipeline import Step, Watcher
    from optc.passes.verify.checked import Checks, Outcome


@verb("opt")
@click.argument("model")
@shared_options
@click.option("-o", "--out", required=True, metavar="OUT.onnx", help="The file to write.")
@click.option(
    "--print-after-all", is_flag=True, help="Print the graph as ONNX text after every pass (stderr)."
)
@click.option("--time-passes", is_flag=True, help="Print what each pass took (stderr).")
@click.pass_context
def command(ctx: click.Context, /, **options: Any) -> None:
    """Run passes on a model and write an ONNX file.

    MODEL is an .onnx file or zoo:NAME.     Nodes of unknown domains are carried through untouched.
    """
    from optc.cli.compile import show_broken
    from optc.cli.progress import PassProgress, terminal_progress
    from optc.models.source import open_source
    from optc.passes.verify.checked import run_checked
    from optc.passes.verify.watcher import VerifyError
    from optc.targets.compiler import make_passes

    settings = settings_of(ctx)
    _check_out(options)
    text = pipeline_text(options["pipeline"], options["recipe"])
    passes = make_passes(text, None, options["shapes"])
    source = open_source(options["model"])
    with terminal_progress(settings.quiet) as progress:
        watchers: list[Watcher] = [PassProgress(progress)] if progress else []
        if options["print_after_all"]:
            watchers.append(_printer())
        try:
            outcome = run_checked(passes, source.model, _checks(options, source, watchers, progress))
        except VerifyError as error:
            show_broken(error, settings)
            raise
    source.model.save(options["out"])
    if options["time_passes"]:
        _print_times(outcome.steps)
    _report(outcome, options["out"], settings)


def _check_out(options: dict[str, Any]) -> None:
    """`InputError` where the file to write is one with data to read."""
    out = Path(options["out"])
    for flag, name in (("--calib", "calib"), ("--eval", "evaluation"), ("-i", "inputs")):
        if options[name] and out.exists() and Path(options[name]).exists() and out.samefile(options[name]):
            raise InputError(f"{out}: holds the data of {flag}; give -o another name")


def _checks(
    options: dict[str, Any], source: Source, watchers: list[Watcher], progress: Progress | None
) -> Checks:
    from optc.models.data import Samples, load_arrays
    from optc.passes.base import NoProgress
    from optc.passes.verify.checked import Checks
    from optc.passes.verify.measure import measure

    calib, evaluation, inputs = options["calib"], options["evaluation"], options["inputs"]
    return Checks(
        calibration=Samples(calib) if calib else source.calibration,
        evaluation=Samples(evaluation) if evaluation else source.evaluation,
        metric=options["metric"] or source.metric or "top1",
        inputs=load_arrays(inputs) if inputs else None,
        verify=options["verify"],
        guard=options["guard"],
        cost=measure,
        seed=options["seed"],
        watchers=watchers,
        progress=progress or NoProgress(),
    )


def _printer() -> Watcher:
    from optc.cli.print_graph import PrintWatcher

    return PrintWatcher(sys.stderr)


def _print_times(steps: list[Step]) -> None:
    total = sum(s.seconds for s in steps) or 1.0
    for step in steps:
        print(f"{step.seconds * 1e3:10.1f} ms {step.seconds / total:6.1%}  {step.text}", file=sys.stderr)


def _report(outcome: Outcome, out: str, settings: Settings) -> None:
    from optc.cli.console import console, print_json
    from optc.cli.outcome import outcome_json
    from optc.cli.tables import print_accuracy, print_steps, print_summary, print_verification

    if settings.json:
        print_json({"out": out, **outcome_json(outcome)})
    elif not settings.quiet:
        print_summary(outcome.before, outcome.after)
        print_accuracy(outcome.scores)
        print_steps(outcome.steps, settings.verbose)
        if outcome.rows:
            print_verification(outcome.rows, settings.verbose, not outcome.feeds.given)
        console().print(f"wrote {out}")
