"""`optc simulate`: replay a plan on a described cluster, event by event."""

from __future__ import annotations

from math import isfinite
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from optc.cli.settings import settings_of, verb
from optc.models.errors import InputError

if TYPE_CHECKING:
    from optc.passes.partition.cluster import Cluster
    from optc.targets.cluster.plan_folder import PlanFolder

MOST = 100_000
"""Devices that are simulated at most: it takes a minute or so."""

REQUESTS = 8
"""Micro-batches of each replica, for each place of its window: enough that it runs full."""


@verb("simulate")
@click.argument("plan")
@click.option("--cluster", metavar="PRESET|FILE.toml", help="The devices and links; else the plan's own.")
@click.option("--micro-batches", metavar="M", type=click.IntRange(min=1), help="How many; else the plan's.")
@click.option("--scale", metavar="N,N,…", help="With so many replicas in place of the plan's, one by one.")
@click.option("--plot", metavar="OUT.svg", help="Draw throughput over devices.")
@click.pass_context
def command(
    ctx: click.Context,
    /,
    plan: str,
    cluster: str | None,
    micro_batches: int | None,
    scale: str | None,
    plot: str | None,
) -> None:
    """Replay a plan on a described cluster.

    Event by event: when each rank receives, computes and waits.

    PLAN is a folder that `optc partition` wrote. Where replicas are more than the cluster has devices for,
    the others run on copies of it.
    """
    from optc.cli.console import console, print_json, print_table
    from optc.passes.partition.cluster import load_cluster
    from optc.targets.cluster.picture import seconds_text
    from optc.targets.cluster.plan_folder import PlanFolder

    settings = settings_of(ctx)
    if plot and Path(plot).suffix != ".svg":
        raise InputError(f"{plot}: --plot writes a picture; give it a file name that ends in .svg")
    folder = PlanFolder.load(plan)
    replicas = _replicas(scale) if scale else [folder.replicas]
    for number in replicas:
        _check_size(folder, number)
    described = load_cluster(cluster) if cluster else folder.cluster
    rows = [_replay(folder, described, n, micro_batches) for n in replicas]
    if plot:
        _draw(plot, f"{folder.model.name} on {described.name}", rows)
    if settings.json:
        print_json({"cluster": described.name, "runs": rows})
    elif not settings.quiet:
        table = [
            (
                str(r["replicas"]),
                str(r["devices"]),
                str(r["micro_batches"]),
                seconds_text(r["seconds"]),
                f"{r['throughput']:.4g}",
                f"{r['busy']:.1%}",
            )
            for r in rows
        ]
        print_table([">replicas", ">devices", ">micro-batches", ">time", ">a second", ">devices busy"], table)
        if plot:
            console().print(f"wrote {plot}")


def _draw(plot: str, title: str, rows: list[dict[str, Any]]) -> None:
    from optc.models.storage import write_beside
    from optc.targets.cluster.line_chart import line_chart

    if any(not isfinite(row["throughput"]) for row in rows):
        raise InputError(f"--plot {plot}: nothing in this plan takes time; there is no curve to draw")
    each = rows[0]["throughput"] / rows[0]["devices"]
    curves = {
        "simulated": [(r["devices"], r["throughput"]) for r in rows],
        "in proportion to devices": [(r["devices"], each * r["devices"]) for r in rows],
    }
    with write_beside(Path(plot)) as stream:
        stream.write(line_chart(title, "devices", "micro-batches a second", curves).encode())


def _replicas(text: str) -> list[int]:
    try:
        found = [int(n) for n in text.split(",")]
    except ValueError:
        found = [0]
    if min(found) < 1:
        raise InputError(f"--scale {text}: give numbers of replicas above 0, such as 1,2,4,8")
    return found


def _check_size(folder: PlanFolder, replicas: int) -> None:
    """`InputError` where a replay would take longer than anyone waits."""
    devices = replicas * len(folder.program.ranks)
    if devices > MOST:
        raise InputError(f"{replicas} replicas are {devices} devices; at most {MOST} can be simulated")


def _replay(plan: PlanFolder, cluster: Cluster, replicas: int, count: int | None) -> dict[str, Any]:
    from optc.targets.cluster.simulate import caller_of, simulate

    program, schedule = plan.program, plan.schedule
    window = schedule.window(program.stages)
    # One replica does the plan's micro-batches; more of them as many as fill all for a while.
    count = count or (schedule.micro_batches if replicas == 1 else REQUESTS * window * replicas)
    caller = caller_of(program, plan.border_bytes(), cluster.caller)
    timeline = simulate(program, cluster, count, window, replicas, caller, record=True)
    busy = sum(span.stop - span.start for span in timeline.spans)
    devices = replicas * len(program.ranks)
    return {
        "replicas": replicas,
        "devices": devices,
        "micro_batches": count,
        "seconds": timeline.seconds,
        "throughput": timeline.throughput,
        "busy": busy / (devices * timeline.seconds) if timeline.seconds else 0.0,
    }
