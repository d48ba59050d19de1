"""`optc compile`: the main job."""

from __future__ import annotations

import dataclasses
from typing import TYPE_CHECKING, Any

import click

from optc.cli.options import pipeline_text, shared_options
from optc.cli.settings import Settings, settings_of, verb

if TYPE_CHECKING:
    from optc.targets.base import Target
    from optc.targets.compiler import Result


@verb("compile")
@click.argument("model")
@click.option(
    "--target", "-t", required=True, metavar="cpu|cuda|…", help="The device (see: optc list targets)."
)
@click.option("--arch", metavar="sm_80,…", help="cuda: the architectures to build for.")
@shared_options
@click.option("--run", "run_it", is_flag=True, help="Run the artifact once, on -i or generated inputs.")
@click.option("-o", "--out", metavar="DIR", help="The artifact's folder; MODELNAME.TARGET by default.")
@click.pass_context
def command(ctx: click.Context, /, **options: Any) -> None:
    """Run passes on a model and build an artifact for a target.

    MODEL is an .onnx file or zoo:NAME (see: optc list zoo), which brings its own calibration and test data.
    """
    from optc.cli.progress import PassProgress, terminal_progress
    from optc.passes.verify.watcher import VerifyError
    from optc.targets.compiler import compile

    settings = settings_of(ctx)
    target = with_arch(options["target"], options["arch"])
    with terminal_progress(settings.quiet) as progress:
        try:
            result = compile(
                options["model"],
                target,
                pipeline_text(options["pipeline"], options["recipe"]),
                out=options["out"],
                calibration=options["calib"],
                evaluation=options["evaluation"],
                metric=options["metric"],
                inputs=options["inputs"],
                shapes=options["shapes"],
                verify=options["verify"],
                guard=options["guard"],
                seed=options["seed"],
                watchers=[PassProgress(progress)] if progress else [],
                progress=progress,
            )
        except VerifyError as error:
            show_broken(error, settings)
            raise
    ran = _run(result, options["inputs"], options["seed"]) if options["run_it"] else None
    _report(result, settings, ran)


def with_arch(text: str, arch: str | None) -> Target:
    """The target of `--target`, with `--arch` as its option (`InputError`)."""
    from optc.models.errors import InputError
    from optc.targets.compiler import make_target

    target: Any = make_target(text)
    if arch is not None:
        if "arch" not in {f.name for f in dataclasses.fields(target)}:
            raise InputError(f"--arch: target '{target.name}' takes none")
        target = dataclasses.replace(target, arch=tuple(a.strip() for a in arch.split(",")))
    device: Target = target
    return device


def show_broken(error: Any, settings: Settings) -> None:
    """Print the verification table up to the pass that broke its contract."""
    from optc.cli.tables import print_verification

    if not settings.json:
        print_verification(error.rows, settings.verbose)


def _run(result: Result, inputs: str | None, seed: int) -> list[dict[str, Any]]:
    from optc.cli.arrays import describe_arrays, feeds_for

    artifact = result.artifact
    return describe_arrays(artifact.run(feeds_for(artifact.model, inputs, seed)))


def _report(result: Result, settings: Settings, ran: list[dict[str, Any]] | None) -> None:
    from optc.cli.console import console, print_json, size
    from optc.cli.tables import print_placement, print_steps, print_summary, print_verification

    outcome, artifact = result.outcome, result.artifact
    if settings.json:
        print_json(result_json(result) | ({"outputs": ran} if ran is not None else {}))
        return
    if settings.quiet:
        return
    print_summary(outcome.before, outcome.after, (outcome.score_before, outcome.score_after))
    print_steps(outcome.steps, settings.verbose)
    if outcome.rows:
        print_verification(outcome.rows, settings.verbose)
    print_placement(artifact.placement, settings.verbose)
    for entry in ran or ():
        console().print("output " + ", ".join(f"{k} {v}" for k, v in entry.items()))
    total = sum(p.stat().st_size for p in artifact.folder.iterdir())
    console().print(f"wrote {artifact.folder} for {artifact.manifest['target']} ({size(total)})")


def result_json(result: Result) -> dict[str, Any]:
    """All of a compilation in JSON types, times included."""
    from optc.cli.outcome import outcome_json

    artifact = result.artifact
    return {
        "artifact": str(artifact.folder),
        "target": artifact.manifest["target"],
        "pipeline": artifact.manifest["pipeline"],
        **outcome_json(result.outcome),
        "placement": artifact.manifest["placement"],
    }
