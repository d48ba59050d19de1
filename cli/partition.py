"""`optc partition`: share a model out over the devices of a cluster."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import click

from optc.cli.options import pipeline_text, shared_options
from optc.cli.settings import Settings, settings_of, verb

if TYPE_CHECKING:
    from optc.passes.partition.partition import Objective, Partition
    from optc.passes.pipeline import Watcher
    from optc.targets.cluster.partition import Result

CLUSTERS = {"cuda": "h200-8", "vta": "vta-4-boards", "fpga": "vta-4-boards"}
"""The preset that is taken where none is given, by target; else `cpu-cores`."""


@verb("partition")
@click.argument("model")
@click.option(
    "--target", "-t", required=True, metavar="cpu|cuda|vta|…", help="What runs a rank's part of the model."
)
@click.option("--stages", metavar="K", type=click.IntRange(min=1), help="Pipeline stages.")
@click.option("--tensor", metavar="T", type=click.IntRange(min=1), help="Devices that share a stage's work.")
@click.option("--data", metavar="D", type=click.IntRange(min=1), help="Replicas of all that.")
@click.option("--devices", metavar="N", type=click.IntRange(min=1), help="Try all ways to use N devices.")
@click.option(
    "--objective",
    type=click.Choice(["throughput", "latency"]),
    help="What is best among them (throughput).",
)
@click.option(
    "--cluster", metavar="PRESET|FILE.toml", help="The devices and links; else the target's preset."
)
@click.option("--measure", is_flag=True, help="Time the nodes here (ONNX Runtime, one thread).")
@click.option("--schedule", type=click.Choice(["1f1b", "gpipe"]), default="1f1b", show_default=True)
@click.option("--micro-batches", type=click.IntRange(min=1), default=8, show_default=True)
@shared_options
@click.option("-o", "--out", metavar="PLAN", help="The plan's folder; MODELNAME.plan by default.")
@click.pass_context
def command(ctx: click.Context, /, **options: Any) -> None:
    """Share a model out over the devices of a cluster.

    Pipeline stages, tensor parallelism, replicas, or the best of all ways to use a number of devices.

    MODEL is an .onnx file or zoo:NAME. Writes a folder with a model and an artifact for each rank, plan.json
    and a picture (plan.svg). Without --stages, --tensor, --data or --devices the model's own device
    annotations say how.
    """
    from optc.cli.checks import checks_of
    from optc.cli.compile import show_broken
    from optc.cli.progress import PassProgress, terminal_progress
    from optc.models.source import open_source
    from optc.passes.verify.watcher import VerifyError
    from optc.targets.cluster.partition import partition
    from optc.targets.cluster.schedule import Schedule
    from optc.targets.compiler import make_target

    settings = settings_of(ctx)
    target = make_target(options["target"])
    source = open_source(options["model"])
    cost = getattr(target, "measure", target.cost)
    with terminal_progress(settings.quiet) as progress:
        watchers: list[Watcher] = [PassProgress(progress)] if progress else []
        try:
            result = partition(
                options["model"],
                target,
                _how(options),
                options["cluster"] or CLUSTERS.get(target.name, "cpu-cores"),
                schedule=Schedule(options["schedule"], options["micro_batches"]),
                pipeline=pipeline_text(options["pipeline"], options["recipe"]),
                out=options["out"],
                shapes=options["shapes"],
                checks=checks_of(options, source, cost, watchers, progress, getattr(target, "align", 16)),
            )
        except VerifyError as error:
            show_broken(error, settings)
            raise
    _report(result, settings)


def _how(options: dict[str, Any]) -> Partition | None:
    """The degrees of parallelism that were asked for; None: the model's annotations say."""
    from optc.passes.partition.partition import Partition

    degrees = {n: options[n] for n in ("stages", "tensor", "data", "devices") if options[n] is not None}
    if options["objective"] and "devices" not in degrees:
        raise click.UsageError("--objective goes with --devices")
    if options["measure"] and not degrees:
        raise click.UsageError("--measure goes with --stages or --data")
    if not degrees:
        return None
    objective: Objective = options["objective"] or "throughput"
    return Partition(**degrees, objective=objective, measure=options["measure"])


def _report(result: Result, settings: Settings) -> None:
    from optc.cli.checks import print_outcome
    from optc.cli.console import console, print_json
    from optc.cli.outcome import outcome_json

    outcome = result.outcome
    if settings.json:
        print_json(plan_summary(result) | outcome_json(outcome))
        return
    if settings.quiet:
        return
    print_outcome(outcome, settings.verbose)
    _print_plan(result)
    console().print(f"wrote {result.plan.folder} for {result.plan.data['target']} (picture: plan.svg)")


def plan_summary(result: Result) -> dict[str, Any]:
    """The plan in figures, as JSON types; times in seconds, throughput in micro-batches a second."""
    assignment, plan, prediction = result.solution.assignment, result.solution.plan, result.prediction
    return {
        "plan": str(result.plan.folder),
        "data": assignment.data,
        "stages": assignment.stages,
        "tensor": assignment.tensor,
        "bottleneck": plan.bottleneck,
        "bound": plan.bound,
        "gap": plan.gap if plan.bound else None,
        "throughput": prediction.throughput,
        "latency": prediction.latency,
        "bubble": prediction.bubble,
        "seconds": prediction.seconds,
        "compute": list(plan.compute),
        "receive": list(plan.receive),
        "memory": list(prediction.memory),
        "notes": list(result.notes),
    }


def _print_plan(result: Result) -> None:
    from optc.cli.console import console, number, print_table, size
    from optc.targets.cluster.picture import seconds_text

    assignment, plan, prediction = result.solution.assignment, result.solution.plan, result.prediction
    nodes = [list(assignment.stage.values()).count(at) for at in range(assignment.stages)]
    rows = [
        (
            str(at),
            number(nodes[at]),
            seconds_text(plan.compute[at]),
            seconds_text(plan.receive[at]),
            size(sum(b for (_, to), b in plan.sent.items() if to == at)),
            size(prediction.memory[at]),
        )
        for at in range(assignment.stages)
    ]
    print_table(["stage", ">nodes", ">compute", ">receive", ">received", ">memory"], rows)
    gap = f", {plan.gap:.1%} above the lower bound" if plan.bound else ""
    console().print(
        f"{assignment.data} × {assignment.stages} stages × {assignment.tensor} devices; "
        f"slowest stage {seconds_text(plan.bottleneck)}{gap}"
    )
    for note in result.notes:
        console().print(note)
    schedule = result.plan.schedule
    each = "" if assignment.data == 1 else "of a replica "
    console().print(
        f"predicted: {prediction.throughput:.4g} micro-batches a second, latency "
        f"{seconds_text(prediction.latency)}; {schedule.micro_batches} micro-batches {each}"
        f"({schedule.kind}) in {seconds_text(prediction.seconds)}, bubble {prediction.bubble:.1%}"
    )
