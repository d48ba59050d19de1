"""One network shared out in four ways over this machine's two cores: what is predicted, what Ray does.

Each process has one thread. Where there are more processes than cores, the description gives each half a
core. Writes the pictures that docs/parallel.md shows.
"""

from __future__ import annotations

import statistics
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
from partition_check import every_fault
from partition_equal import network
from partition_ray import SMALL, TENSOR, hop, link

from optc.models.model import Model
from optc.models.session import Arrays, Session
from optc.passes.partition.cluster import Device, Link
from optc.passes.partition.partition import Partition
from optc.passes.partition.problem import Problem
from optc.passes.verify.inputs import generate_runnable
from optc.targets.cluster.partition import PICTURE, partition
from optc.targets.cluster.plan_folder import PlanFolder
from optc.targets.cluster.ray_engine import RayEngine
from optc.targets.cluster.ray_start import enter
from optc.targets.cluster.schedule import Schedule
from optc.targets.onnxruntime import OnnxRuntime

NETWORK = "resnet50"
WAYS = {
    "pipeline": {"stages": 2},
    "tensor": {"tensor": 2},
    "data": {"data": 2},
    "hybrid": {"data": 2, "stages": 2},
}
CORES = 2
REQUESTS = 48
ROUNDS = 3
PICTURES = Path(__file__).parents[1] / "docs"

CLUSTER = """# This machine: processes of one thread each, measured by benchmarks/partition_ways.py.
[[device]]
name = "core"
count = {count}
macs_per_second = {macs}
bytes_per_second = {bytes}
memory_bytes = 8_000_000_000
[[link]]
between = ["core", "core"]
latency_s = {latency}
bytes_per_second = {bandwidth}
[caller]
latency_s = {latency}
bytes_per_second = {bandwidth}
"""


def measure() -> tuple[list[dict[str, Any]], dict[str, Any]]:
    """A row for one process, and for each way, as docs/parallel.md shows; the bar is the checker's."""
    leave = enter(None, 8, 2**29)
    try:
        hops = [hop(TENSOR), hop(SMALL)]
        rows = list(ways(link(hops)))
        return [*hops, *rows], {"the independent checker faults no plan": not any(r["faults"] for r in rows)}
    finally:
        leave()


def ways(over: Link) -> Iterator[dict[str, Any]]:
    """A row for each; `over`: a hop between two actors."""
    model = network(NETWORK)
    feeds = generate_runnable(model, Session(model), 0)
    alone, seconds = 1.0, _seconds(model, feeds)
    speed = _speed(model, seconds)
    for way, degrees in {"one process": {}, **WAYS}.items():
        with tempfile.TemporaryDirectory() as folder:
            figures = (*speed, over.latency_s, over.bytes_per_second)
            found = _row(model, feeds, way, degrees, figures, Path(folder))
        if way == "one process":
            alone = found["measured"]
        found |= {"speedup": found["measured"] / alone}
        print(found, flush=True)
        yield found


def _seconds(model: Model, feeds: Arrays) -> float:
    """Seconds of the whole network, one thread."""
    session = Session(model, optimize=True, threads=1)
    found = []
    for _ in range(12):
        start = time.perf_counter()
        session.run(feeds)
        found.append(time.perf_counter() - start)
    return statistics.median(found[2:])


def _speed(model: Model, seconds: float) -> tuple[float, float]:
    """Multiply-accumulates and bytes a second of a device on which the model takes `seconds`."""
    guess = Device("guess", 40e9, 10e9, 1)
    share = Problem.of(model, guess).seconds / seconds
    return guess.macs_per_second * share, guess.bytes_per_second * share


def _row(
    model: Model,
    feeds: Arrays,
    way: str,
    degrees: dict[str, int],
    figures: tuple[float, float, float, float],
    folder: Path,
) -> dict[str, Any]:
    devices = int(np.prod(list(degrees.values()) or [1]))
    share = min(1.0, CORES / devices)
    macs, bytes_, latency, bandwidth = figures
    description = folder / "two-cores.toml"
    description.write_text(
        CLUSTER.format(
            count=devices, macs=macs * share, bytes=bytes_ * share, latency=latency, bandwidth=bandwidth
        )
    )
    plan = partition(
        model,
        OnnxRuntime(threads=1),
        # Where a device is a whole core, node times are measured; they cannot be where work is shared.
        Partition(
            degrees.get("data", 1),
            degrees.get("stages", 1),
            degrees.get("tensor", 1),
            measure=way == "pipeline",
        ),
        description,
        schedule=Schedule(micro_batches=8),
        out=folder / "plan",
    ).plan
    if degrees:
        (PICTURES / f"parallel-{way}.svg").write_text((plan.folder / PICTURE).read_text())
    measured = _measured(plan, feeds)
    predicted = plan.data["predicted"]
    return {
        "way": way,
        "degrees": degrees,
        "ranks": len(plan.program.ranks) * plan.replicas,
        "parts": sum(len(rank.parts) for rank in plan.program.ranks),
        "collectives": len(plan.program.collectives),
        "predicted": predicted["throughput"],
        "predicted_latency": predicted["latency"],
        "measured": measured,
        "ratio": measured / predicted["throughput"],
        "faults": every_fault(plan.folder / "plan.json"),
    }


def _measured(plan: PlanFolder, feeds: Arrays) -> float:
    """Requests a second on Ray, the median over the rounds, the first of which warms up."""
    window = plan.schedule.window(plan.program.stages)
    rates = []
    with RayEngine(plan.folder, plan.program, plan.replicas, window) as engine:
        for _ in range(ROUNDS + 1):
            times = []
            for answer in engine.run([feeds] * REQUESTS):
                assert isinstance(answer, dict), answer
                times.append(time.perf_counter())
            rates.append((len(times) - 1) / (times[-1] - times[0]))
    return statistics.median(rates[1:])
