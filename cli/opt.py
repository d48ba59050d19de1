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
    from optc.passes.pipeline import Step, Watcher
    from optc.passes.verify.checked import Outcome


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
    from optc.cli.checks import checks_of
    from optc.cli.compile import show_broken
    from optc.cli.progress import PassProgress, terminal_progress
    from optc.models.source import open_source
    from optc.passes.verify.checked import run_checked
    from optc.passes.verify.measure import measure
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
            checks = checks_of(options, source, measure, watchers, progress)
            outcome = run_checked(passes, source.model, checks)
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


def _printer() -> Watcher:
    from optc.cli.print_graph import PrintWatcher

    return PrintWatcher(sys.stderr)


def _print_times(steps: list[Step]) -> None:
    total = sum(s.seconds for s in steps) or 1.0
    for step in steps:
        print(f"{step.seconds * 1e3:10.1f} ms {step.seconds / total:6.1%}  {step.text}", file=sys.stderr)


def _report(outcome: Outcome, out: str, settings: Settings) -> None:
    from optc.cli.checks import print_outcome
    from optc.cli.console import console, print_json
    from optc.cli.outcome import outcome_json

    if settings.json:
        print_json({"out": out, **outcome_json(outcome)})
    elif not settings.quiet:
        print_outcome(outcome, settings.verbose)
        console().print(f"wrote {out}")
