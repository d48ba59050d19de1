"""The runtime on Ray: what a hop costs, what two stages on two cores give, who burns a core while he waits.

    python benchmarks/partition_ray.py      measure, write results/partition_ray.json

Row `hop`: chains of `SHORT` and of `LONG` actors pass a tensor of 1 MB on, one request at a time, in turns;
the difference of the medians, a hop. Row `pipeline`: ResNet-50 (random weights, one sample a request) cut in
two, one thread each, beside one process and two independent processes with the whole model, in turns; the
bar is on the pipeline's speed-up as a share of the two processes', the median over the rounds. `processor`:
seconds of it that the driver and the actors use. Two cores that nothing else uses are needed. Exit status 1
where a bar fails.
"""

from __future__ import annotations

import multiprocessing
import os
import statistics
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

import numpy as np
from common import header, write

from optc.models.model import Model
from optc.models.session import Session
from optc.models.source import open_source
from optc.passes.base import Context
from optc.passes.pipeline import Pipeline
from optc.passes.registry import parse_passes
from optc.targets.artifact import load
from optc.targets.cluster.program import Array, Message, Part, Program, Rank
from optc.targets.cluster.ray_engine import RayEngine
from optc.targets.cluster.ray_start import enter
from optc.targets.onnxruntime import OnnxRuntime

SHORT, LONG = 2, 6
TENSOR = 10**6  # bytes
ROUNDS = 7
REQUESTS = 32
IN_FLIGHT = 4
TARGET = OnnxRuntime(threads=1)
HOP_BAR, SHARE_BAR = 0.5e-3, 0.85


def chain(length: int) -> Program:
    """Ranks that pass `x` on."""
    messages = tuple(Message("x", rank, rank + 1, TENSOR) for rank in range(length - 1))
    ranks = tuple(Rank(stage, 0, ()) for stage in range(length))
    return Program(ranks, messages, (), ("x",), {"x": length - 1})


def hop() -> dict[str, Any]:
    """Seconds of a hop."""
    feeds = {"x": np.ones(TENSOR // 4, np.float32)}
    times: dict[int, list[float]] = {SHORT: [], LONG: []}
    with ExitStack() as stack:
        engines = {
            length: stack.enter_context(RayEngine(Path(), chain(length), in_flight=1)) for length in times
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
    return {"measure": "hop", "bytes": TENSOR, "seconds": seconds, "medians": medians}


@dataclass
class Cut:
    """A model in two halves, the tensor between them and its bytes, and what each half takes on a core."""

    halves: tuple[Model, Model]
    between: str
    bytes: int
    seconds: list[float]


def cut(model: Model) -> Cut:
    """The model cut where one tensor goes between the halves, so that the longer one is shortest."""
    nodes = model.view.nodes
    best: Cut | None = None
    for index in range(1, len(nodes)):
        made = {tensor.name for node in nodes[:index] for tensor in node.outputs}
        crossing = {t.name: t for node in nodes[index:] for t in node.inputs if t.name in made}
        if len(crossing) != 1 or nodes[index].op in ("Relu", "Add"):
            continue
        (between,) = crossing.values()
        first = model.piece(nodes[:index], model.view.inputs, [between.name])
        second = model.piece(nodes[index:], [between], [t.name for t in model.view.outputs])
        early, tensors = fastest(Session(first, optimize=True, threads=1), {"image": image(0)})
        late, _ = fastest(Session(second, optimize=True, threads=1), tensors)
        if best is None or max(early, late) < max(best.seconds):
            best = Cut((first, second), between.name, tensors[between.name].nbytes, [early, late])
    assert best is not None
    return best


def fastest(session: Session, feeds: dict[str, Array]) -> tuple[float, dict[str, Array]]:
    """The shortest of some runs, and the outputs."""
    found = []
    for _ in range(5):
        start = time.perf_counter()
        outputs = session.run(feeds)
        found.append(time.perf_counter() - start)
    return min(found), outputs


def image(seed: int) -> Array:
    """A sample."""
    return np.random.default_rng(seed).random((1, 3, 224, 224), np.float32)


class Alone:
    """A process of its own with the whole model, on one thread."""

    def __init__(self, folder: Path) -> None:
        context = multiprocessing.get_context("spawn")
        self.end, other = context.Pipe()
        self.process = context.Process(target=_work, args=(folder, other), daemon=True)
        self.process.start()
        self.end.recv()

    def close(self) -> None:
        """End it."""
        self.end.send(0)
        self.process.join()


def _work(folder: Path, end: Connection) -> None:
    runner, feeds = load(folder).runner(), {"image": image(0)}
    end.send(None)
    while count := end.recv():
        for _ in range(count):
            runner.run(feeds)
        end.send(None)


def alone(processes: Sequence[Alone]) -> float:
    """Requests a second of some processes at once."""
    start = time.perf_counter()
    for process in processes:
        process.end.send(REQUESTS)
    for process in processes:
        process.end.recv()
    return len(processes) * REQUESTS / (time.perf_counter() - start)


def cpu_seconds(pid: int) -> float:
    """Processor time that a process has used."""
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(") ")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def pipeline(folder: Path) -> dict[str, Any]:
    """Speed-ups over one process."""
    model = open_source("zoo:resnet50-v1").model
    Pipeline(parse_passes("canonicalize")).run(model, Context())
    found = cut(model)
    for name, part in (("whole", model), ("first", found.halves[0]), ("second", found.halves[1])):
        (folder / name).mkdir()
        TARGET.build(part, folder / name)
    ranks = (
        Rank(0, 0, (Part("first", ("image",), (found.between,), found.seconds[0]),)),
        Rank(1, 0, (Part("second", (found.between,), ("logits",), found.seconds[1]),)),
    )
    message = Message(found.between, 0, 1, found.bytes)
    program = Program(ranks, (message,), (), ("image",), {"logits": 1})
    both = Alone(folder / "whole"), Alone(folder / "whole")
    with RayEngine(folder, program, in_flight=IN_FLIGHT) as engine:
        rates = rounds(engine, both)
        cores = used_cores(engine, both[0])
        busy = [{"busy": m.busy, "waiting": m.waiting} for m in engine.metrics().ranks]
    for process in both:
        process.close()
    speedups = [[two / one, ray / one] for one, two, ray in rates]
    return {
        "measure": "pipeline",
        "halves_seconds": found.seconds,
        "between": {"tensor": found.between, "bytes": found.bytes},
        "requests_a_second": rates,
        "speedup_two_processes": statistics.median(two for two, _ in speedups),
        "speedup_ray": statistics.median(ray for _, ray in speedups),
        "share": statistics.median(ray / two for two, ray in speedups),
        "processor": cores,
        "ranks": busy,
    }


def rounds(engine: RayEngine, both: Sequence[Alone]) -> list[tuple[float, float, float]]:
    """Requests a second of one process, two processes, and the pipeline; the first round only warms up."""
    found, feeds = [], {"image": image(0)}
    for _ in range(ROUNDS + 1):
        one, two = alone(both[:1]), alone(both)
        start = time.perf_counter()
        for answer in engine.run([feeds] * (2 * REQUESTS)):
            assert isinstance(answer, dict), answer
        found.append((one, two, 2 * REQUESTS / (time.perf_counter() - start)))
    return found[1:]


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
    whole = used([one.process.pid or 0], lambda: alone([one]), REQUESTS)
    idle = used(pids, lambda: time.sleep(5), 5)
    return {"of": ["driver", "rank 0", "rank 1"], "request": request, "whole_model": whole[0], "idle": idle}


def main() -> int:
    """Measure both."""
    head = header(["optc", "ray", "onnxruntime", "numpy"], {"image": 0})
    leave = enter(None, SHORT + LONG, 2**29)
    try:
        rows = [hop()]
        print(rows[0], flush=True)
        with tempfile.TemporaryDirectory() as folder:
            rows.append(pipeline(Path(folder)))
        print(rows[1], flush=True)
    finally:
        leave()
    bars = {
        f"a hop of 1 MB under {HOP_BAR * 1e3} ms": rows[0]["seconds"] < HOP_BAR,
        f"two stages at least {SHARE_BAR} of two processes": rows[1]["share"] >= SHARE_BAR,
    }
    write("partition_ray", head, rows, bars)
    return 0 if all(bars.values()) else 1


if __name__ == "__main__":
    sys.exit(main())
