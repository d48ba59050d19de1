"""The runtime on Ray: what a hop costs, what two stages on two cores give, and whether that was predicted.

Rows `hop`: chains of `SHORT` and of `LONG` actors pass a tensor on, one request at a time, in turns; the
difference of the medians, a hop. Row `pipeline`: ResNet-50 (random weights, one sample a request) in two
stages by `optc partition --measure`, one thread each, beside one process and two independent processes with
the whole model, in turns; the bar is on the pipeline's speed-up as a share of the two processes', the median
over the rounds. In each round the two parts also run in a process each, at once and without Ray: from their
times and the hops the event simulator predicts the throughput that Ray then has. `processor`: what the driver
and the actors use of it. Two cores that nothing else uses are needed.
"""

from __future__ import annotations

import multiprocessing
import os
import statistics
import tempfile
import time
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from dataclasses import replace
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

import numpy as np

from optc.models.model import Model
from optc.models.source import open_source
from optc.passes.base import Context
from optc.passes.partition.cluster import Cluster, Device, Link
from optc.passes.partition.partition import Partition
from optc.passes.pipeline import Pipeline
from optc.passes.registry import parse_passes
from optc.targets.artifact import load
from optc.targets.cluster.partition import partition
from optc.targets.cluster.plan_folder import PlanFolder
from optc.targets.cluster.program import Array, Message, Program, Rank
from optc.targets.cluster.ray_engine import RayEngine
from optc.targets.cluster.ray_start import enter
from optc.targets.cluster.simulate import Caller, simulate
from optc.targets.onnxruntime import OnnxRuntime

SHORT, LONG = 2, 6
TENSOR, SMALL = 10**6, 64 * 10**3  # bytes
ROUNDS = 9
REQUESTS = 24
IN_FLIGHT = 4
TARGET = OnnxRuntime(threads=1)
HOP_BAR, SHARE_BAR, PREDICTED_BAR = 0.5e-3, 0.85, 0.1


def chain(length: int, size: int) -> Program:
    """Ranks that pass `x` on."""
    messages = tuple(Message("x", rank, rank + 1, size) for rank in range(length - 1))
    ranks = tuple(Rank(stage, 0, ()) for stage in range(length))
    return Program(ranks, messages, (), ("x",), {"x": length - 1})


def hop(size: int) -> dict[str, Any]:
    """Seconds of a hop of `size` bytes."""
    feeds = {"x": np.ones(size // 4, np.float32)}
    times: dict[int, list[float]] = {SHORT: [], LONG: []}
    with ExitStack() as stack:
        engines = {
            length: stack.enter_context(RayEngine(Path(), chain(length, size), in_flight=1))
            for length in times
        }
        for turn in range(ROUNDS + 1):
            for length, engine in engines.items():
                start = time.perf_counter()
                for _ in engine.run([feeds] * 40):
                    end = time.perf_counter()
                    if turn:  # the first round makes the channels as large as they have to be
                        times[length].append(end - start)
                    start = end
    medians = {length: statistics.median(found) for length, found in times.items()}
    seconds = (medians[LONG] - medians[SHORT]) / (LONG - SHORT)
    return {"measure": "hop", "bytes": size, "seconds": seconds, "medians": medians}


def link(hops: Sequence[dict[str, Any]]) -> Link:
    """Latency and bandwidth by two hops of different size."""
    large, small = hops
    rate = (large["bytes"] - small["bytes"]) / max(large["seconds"] - small["seconds"], 1e-9)
    return Link(max(small["seconds"] - small["bytes"] / rate, 0.0), rate)


CLUSTER = """[[device]]
name = "core"
count = 2
macs_per_second = 40e9
bytes_per_second = 10e9
memory_bytes = 8_000_000_000
[[link]]
between = ["core", "core"]
latency_s = {latency}
bytes_per_second = {rate}
"""


def cut(model: Model, over: Link, folder: Path) -> PlanFolder:
    """The model in two stages by the times of its nodes here."""
    description = folder / "two-cores.toml"
    description.write_text(CLUSTER.format(latency=over.latency_s, rate=over.bytes_per_second))
    how = Partition(stages=2, measure=True)
    return partition(model, TARGET, how, description, out=folder / "plan").plan


def image(seed: int) -> Array:
    """A sample."""
    return np.random.default_rng(seed).random((1, 3, 224, 224), np.float32)


class Alone:
    """A process of its own with an artifact on one thread, which runs it on `feeds`."""

    def __init__(self, folder: Path, feeds: dict[str, Array]) -> None:
        context = multiprocessing.get_context("spawn")
        self.end, other = context.Pipe()
        self.process = context.Process(target=_work, args=(folder, feeds, other), daemon=True)
        self.process.start()
        self.end.recv()

    def close(self) -> None:
        """End it."""
        self.end.send(0)
        self.process.join()


def _work(folder: Path, feeds: dict[str, Array], end: Connection) -> None:
    runner = load(folder).runner()
    end.send(None)
    while count := end.recv():
        start = time.perf_counter()
        for _ in range(count):
            runner.run(feeds)
        end.send(time.perf_counter() - start)


def at_once(processes: Sequence[Alone]) -> list[float]:
    """Seconds a run that each of some processes takes, all at once."""
    for process in processes:
        process.end.send(REQUESTS)
    return [process.end.recv() / REQUESTS for process in processes]


def cpu_seconds(pid: int) -> float:
    """Processor time that a process has used."""
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(") ")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def pipeline(folder: Path, over: Link) -> dict[str, Any]:
    """Speed-ups over one process, and the throughput that is predicted."""
    model = open_source("zoo:resnet50-v1").model
    Pipeline(parse_passes("canonicalize")).run(model, Context())
    plan = cut(model, over, folder)
    (folder / "whole").mkdir()
    TARGET.build(model, folder / "whole")
    feeds = {"image": image(0)}
    both = [Alone(folder / "whole", feeds) for _ in range(2)]
    first, second = (part for rank in plan.program.ranks for part in rank.parts)
    between = plan.artifact(first).run({n: feeds[n] for n in first.inputs})
    given = feeds | between
    halves = [Alone(plan.folder / part.name, {n: given[n] for n in part.inputs}) for part in (first, second)]
    with RayEngine(plan.folder, plan.program, in_flight=IN_FLIGHT) as engine:
        found = [turn(engine, both, halves, plan.program, over) for _ in range(ROUNDS + 1)][1:]
        cores = used_cores(engine, both[0])
        busy = [{"busy": m.busy, "waiting": m.waiting} for m in engine.metrics().ranks]
    for process in (*both, *halves):
        process.close()
    return {
        "measure": "pipeline",
        "between": {n: a.nbytes for n, a in between.items()},
        "rounds": found,
        "speedup_two_processes": statistics.median(r["two"] / r["one"] for r in found),
        "speedup_ray": statistics.median(r["ray"] / r["one"] for r in found),
        "share": statistics.median(r["ray"] / r["two"] for r in found),
        "measured_over_predicted": statistics.median(r["ray"] / r["predicted"] for r in found),
        "gap_of_the_cut": plan.data["plan"]["gap"],
        "processor": cores,
        "ranks": busy,
    }


def turn(
    engine: RayEngine, both: Sequence[Alone], halves: Sequence[Alone], program: Program, over: Link
) -> dict[str, Any]:
    """Requests a second of one process, two, and the pipeline, and of the simulation by the parts' times."""
    one, two = at_once(both[:1]), at_once(both)
    parts = at_once(halves)
    times, feeds = [], {"image": image(0)}
    for answer in engine.run([feeds] * (2 * REQUESTS)):
        assert isinstance(answer, dict), answer
        times.append(time.perf_counter())
    return {
        "one": 1 / one[0],
        "two": sum(1 / seconds for seconds in two),
        "parts_seconds": parts,
        "predicted": predicted(program, parts, over),
        "ray": (len(times) - 1) / (times[-1] - times[0]),
    }


def predicted(program: Program, seconds: Sequence[float], over: Link) -> float:
    """What the event simulator says of the program, its parts taking these seconds."""
    ranks = tuple(
        replace(rank, parts=(replace(rank.parts[0], seconds=s),))
        for rank, s in zip(program.ranks, seconds, strict=True)
    )
    devices = tuple(Device(name, 1.0, 1.0, 1) for name in ("a", "b"))
    cluster = Cluster("here", devices, {("a", "b"): over})
    caller = Caller(over.seconds(image(0).nbytes), over.seconds(4000))
    timed = replace(program, ranks=ranks)
    return simulate(timed, cluster, 2 * REQUESTS, IN_FLIGHT, caller=caller).throughput


def used_cores(engine: RayEngine, one: Alone) -> dict[str, Any]:
    """Processor seconds of the driver and each actor: a request, and a second in which there is none.

    Beside them a request's in a process with the whole model.
    """
    pids = [os.getpid(), *(m.process for m in engine.metrics().ranks)]
    feeds = {"image": image(0)}

    def used(pids: list[int], work: Callable[[], object], times: int) -> list[float]:
        before = [cpu_seconds(pid) for pid in pids]
        work()
        return [round((cpu_seconds(p) - b) / times, 5) for p, b in zip(pids, before, strict=True)]

    request = used(pids, lambda: list(engine.run([feeds] * (2 * REQUESTS))), 2 * REQUESTS)
    whole = used([one.process.pid or 0], lambda: at_once([one]), REQUESTS)
    idle = used(pids, lambda: time.sleep(5), 5)
    return {"of": ["driver", "rank 0", "rank 1"], "request": request, "whole_model": whole[0], "idle": idle}


def measure() -> tuple[list[dict[str, Any]], dict[str, Any]]:
    """Rows and bars."""
    leave = enter(None, SHORT + LONG, 2**29)
    try:
        rows = [hop(TENSOR), hop(SMALL)]
        with tempfile.TemporaryDirectory() as folder:
            rows.append(pipeline(Path(folder), link(rows)))
    finally:
        leave()
    found = rows[2]
    return rows, {
        f"a hop of 1 MB under {HOP_BAR * 1e3} ms": rows[0]["seconds"] < HOP_BAR,
        f"two stages at least {SHARE_BAR} of two processes": found["share"] >= SHARE_BAR,
        f"predicted within {PREDICTED_BAR:.0%}": abs(found["measured_over_predicted"] - 1) <= PREDICTED_BAR,
    }
