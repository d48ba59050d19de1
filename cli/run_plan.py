"""`optc run` on a plan: all ranks of a partitioned model, in this process or on Ray."""

from __future__ import annotations

import time
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

from optc.cli.settings import Settings
from optc.models.errors import OptcError

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from optc.targets.cluster.plan_folder import PlanFolder

    Arrays = dict[str, NDArray[Any]]


def run_plan(
    folder: str,
    inputs: str | None,
    out: str | None,
    seed: int,
    engine: str,
    address: str | None,
    settings: Settings,
) -> None:
    """Run a plan on the samples of `inputs`, cut into micro-batches, or on generated ones."""
    from optc.cli.arrays import describe_arrays, feeds_for
    from optc.cli.console import console, print_json
    from optc.models.storage import write_beside
    from optc.models.zoo.npz import write_npz
    from optc.targets.cluster.plan_folder import PlanFolder
    from optc.targets.cluster.requests import joined, micro_batches
    from optc.targets.feeds import inputs_of, outputs_of

    plan = PlanFolder.load(folder)
    feeds = feeds_for(plan.model, inputs, seed)
    graph = plan.model.to_proto(embed=False).graph
    requests = micro_batches(feeds, inputs_of(graph), outputs_of(graph), plan.schedule.micro_batches)
    results, metrics = _run(plan, requests, engine, address)
    outputs = joined(results)
    if out is not None:
        with write_beside(Path(out)) as stream:
            write_npz(stream, outputs)
    found = describe_arrays(outputs)
    if settings.json:
        print_json({"outputs": found, "out": out, "micro_batches": len(requests), **metrics})
    elif not settings.quiet:
        for entry in found:
            console().print(", ".join(f"{k} {v}" for k, v in entry.items()))
        _print_metrics(metrics, len(requests))


def _run(
    plan: PlanFolder, requests: list[Arrays], engine: str, address: str | None
) -> tuple[list[Arrays], dict[str, Any]]:
    """The results in order, and what the engine says of its ranks."""
    if engine == "local":
        from optc.targets.cluster.check import local_engine

        loaded = local_engine(plan)
        start = time.perf_counter()
        results = list(loaded.run(requests))
        return results, {"engine": engine, "seconds": time.perf_counter() - start}
    from optc.targets.cluster.ray_engine import RayEngine

    window = plan.schedule.window(plan.program.stages)
    with RayEngine(plan.folder, plan.program, plan.replicas, window, address) as ray:
        start = time.perf_counter()
        results = [_answered(answer) for answer in ray.run(requests)]
        seconds = time.perf_counter() - start
        return results, {"engine": engine, "seconds": seconds, **asdict(ray.metrics())}


def _answered(answer: Arrays | OptcError) -> Arrays:
    """The outputs; the error that a request was answered with is raised."""
    if isinstance(answer, OptcError):
        raise answer
    return answer


def _print_metrics(metrics: dict[str, Any], count: int) -> None:
    from optc.cli.console import console, number, print_table
    from optc.targets.cluster.picture import seconds_text

    seconds = metrics["seconds"]
    ranks = metrics.get("ranks", [])
    if ranks:
        rows = [
            (
                f"{r['replica']}.{r['rank']}" if len(metrics["answered"]) > 1 else str(r["rank"]),
                str(r["stage"]),
                number(r["micro_batches"]),
                seconds_text(r["busy"]),
                seconds_text(r["waiting"]),
            )
            for r in ranks
        ]
        print_table(["rank", ">stage", ">micro-batches", ">busy", ">waiting"], rows)
    restarts = f", {metrics['restarts']} ranks restarted" if metrics.get("restarts") else ""
    console().print(f"{count} micro-batches in {seconds:.3g} s ({count / seconds:.4g} a second){restarts}")
