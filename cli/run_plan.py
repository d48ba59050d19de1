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
    from optc.cli.arrays import describe_arrays
    from optc.cli.console import console, print_json
    from optc.models.storage import write_beside
    from optc.models.zoo.npz import write_npz
    from optc.targets.cluster.plan_folder import PlanFolder
    from optc.targets.cluster.requests import joined

    plan = PlanFolder.load(folder)
    requests = _requests(plan, inputs, seed)
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


def _requests(plan: PlanFolder, inputs: str | None, seed: int) -> list[Arrays]:
    """The samples of a file, cut into micro-batches; without one, as many generated ones as the plan says."""
    from optc.cli.arrays import feeds_for
    from optc.models.session import Session
    from optc.passes.verify.inputs import generate_runnable
    from optc.targets.cluster.requests import batch_axis, micro_batches
    from optc.targets.feeds import inputs_of, outputs_of

    graph = plan.model.to_proto(embed=False).graph
    ends = inputs_of(graph), outputs_of(graph)
    count = plan.schedule.micro_batches
    if inputs is not None:
        return micro_batches(feeds_for(plan.model, inputs), *ends, count)
    whole = Session(plan.model)
    runs = count if batch_axis(*ends) is not None else 1
    return [generate_runnable(plan.model, whole, seed + i) for i in range(runs)]


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
    if any(r["nccl"] for r in ranks):
        console().print("tensors between ranks on GPUs went by NCCL")
    restarts = f", {metrics['restarts']} restarts of ranks" if metrics.get("restarts") else ""
    console().print(
        f"{count} micro-batch{'es' if count > 1 else ''} in {seconds:.3g} s "
        f"({count / seconds:.4g} a second){restarts}"
    )
