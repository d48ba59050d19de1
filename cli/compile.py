"""`optc compile`: the main job."""

from __future__ import annotations

import dataclasses
from typing import TYPE_CHECKING, Any

import click

from optc.cli.options import pipeline_text, shared_options
from optc.cli.settings import Settings, settings_of, verb

if TYPE_CHECKING:
    from optc.passes.base import Progress, Score
    from optc.targets.base import Target
    from optc.targets.compiler import Result


@verb("compile")
@click.argument("model")
@click.option(
    "--target", "-t", required=True, metavar="cpu|cuda|vta|fpga|…", help="The device (see optc list targets)."
)
@click.option("--arch", metavar="sm_80,…", help="cuda: the architectures to build for.")
@click.option("--board", metavar="ulx3s-85f", help="fpga: the board, whose file has its configuration.")
@click.option("--config", metavar="vta.json", help="vta: the machine's configuration; else the original's.")
@click.option("--timing", metavar="pynq|de10|optc", help="vta: whose cycles are counted.")
@click.option(
    "--device", metavar="fsim|timed|rtl", help="vta, fpga: what runs it here; fpga also: board, netlist."
)
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
    from optc.targets.compiler import compile, make_target

    settings, arch = settings_of(ctx), options["arch"]
    target = with_options(
        make_target(options["target"]),
        arch=None if arch is None else tuple(a.strip() for a in arch.split(",")),
        **{name: options[name] for name in ("board", "config", "timing", "device")},
    )
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
    with terminal_progress(settings.quiet) as progress:
        ran = _run(result, options, progress) if options["run_it"] else None
    _report(result, settings, ran)


def with_options(target: Target, **options: Any) -> Target:
    """`target` with those of `options` that are not None (`InputError` where it has no such option)."""
    from optc.models.errors import InputError
    from optc.passes.text import from_text, to_text
    from optc.targets.registry import target_class

    given = {name: value for name, value in options.items() if value is not None}
    known: Any = target
    fields = {f.name for f in dataclasses.fields(known)}
    for name in given:
        if name not in fields:
            raise InputError(f"--{name}: target '{target.name}' takes none")
    changed: Any = dataclasses.replace(known, **given)
    found: tuple[Any, ...] = from_text(to_text([changed]), target_class)  # type: ignore[arg-type]
    device: Target = found[0]
    return device


def show_broken(error: Any, settings: Settings) -> None:
    """Print the verification table up to the pass that broke its contract."""
    from optc.cli.tables import print_verification

    if not settings.json:
        print_verification(error.rows, settings.verbose)


def _run(result: Result, options: dict[str, Any], progress: Progress | None) -> dict[str, Any]:
    """Run the artifact once, on VTA with cycles unless a device was asked for; then on labelled samples."""
    from optc.cli.arrays import describe_arrays, feeds_for
    from optc.cli.profile import profile_json
    from optc.passes.verify.report import score_json

    artifact = result.artifact
    target: Any = artifact.target
    if options["device"] is None and any(f.name == "device" for f in dataclasses.fields(target)):
        target = with_options(target, device="timed")
    runner = target.runner(artifact)
    outputs = runner.run(feeds_for(artifact.model, options["inputs"], options["seed"]))
    ran = {"outputs": describe_arrays(outputs)} | profile_json(runner, layers=False)
    score = _evaluated(result, options, progress) if "cycles" in ran else None
    return ran | ({"accuracy": score_json(score)} if score else {})


def _evaluated(result: Result, options: dict[str, Any], progress: Progress | None) -> Score | None:
    """The artifact's accuracy on labelled samples, where there are any (the zoo's, or --eval)."""
    from optc.models.data import LABEL, Samples
    from optc.models.source import open_source
    from optc.passes.verify.evaluate import Evaluator

    source = open_source(options["model"])
    samples = Samples(options["evaluation"]) if options["evaluation"] else source.evaluation
    if samples is None or LABEL not in samples.members:
        return None
    metric = options["metric"] or source.metric or "top1"
    artifact = result.artifact
    return Evaluator(samples, metric, progress).score(artifact.model, artifact.runner().run)


def _report(result: Result, settings: Settings, ran: dict[str, Any] | None) -> None:
    from optc.cli.checks import print_outcome
    from optc.cli.console import console, print_json, size
    from optc.cli.fpga import print_report, report_of
    from optc.cli.profile import print_cycles
    from optc.cli.tables import print_placement

    outcome, artifact = result.outcome, result.artifact
    if settings.json:
        print_json(result_json(result) | (ran or {}))
        return
    if settings.quiet:
        return
    print_outcome(outcome, settings.verbose)
    print_placement(artifact.placement, settings.verbose)
    report = report_of(artifact.folder)
    if report:
        print_report(report)
    if ran:
        for entry in ran["outputs"]:
            console().print("output " + ", ".join(f"{k} {v}" for k, v in entry.items()))
        print_cycles(ran)
    total = sum(p.stat().st_size for p in artifact.folder.iterdir())
    console().print(f"wrote {artifact.folder} for {artifact.manifest['target']} ({size(total)})")


def result_json(result: Result) -> dict[str, Any]:
    """All of a compilation in JSON types, times included."""
    from optc.cli.fpga import report_of
    from optc.cli.outcome import outcome_json

    artifact = result.artifact
    report = report_of(artifact.folder)
    return {
        "artifact": str(artifact.folder),
        "target": artifact.manifest["target"],
        "pipeline": artifact.manifest["pipeline"],
        **outcome_json(result.outcome),
        "placement": artifact.manifest["placement"],
        **({"report": report} if report else {}),
    }
