"""What one run of a model takes in ONNX Runtime on this machine."""

from __future__ import annotations

import time
from collections.abc import Callable

from optc.models.model import Model
from optc.models.session import Session
from optc.passes.cost import Cost
from optc.passes.verify.inputs import generate_runnable

_SECONDS = 0.3
_RUNS = (5, 200)


def measure(model: Model, seed: int = 0, threads: int = 0) -> Cost:
    """Latency in seconds of `model` in ONNX Runtime, graph optimizations on, on generated inputs.

    The fastest of many runs: what else the machine does only ever adds to it.

    `threads`: 0 lets ONNX Runtime choose. Raises `InputError` where it does not run.
    """
    session = Session(model, optimize=True, threads=threads)
    feeds = generate_runnable(model, session, seed)
    return Cost("measured: onnxruntime", seconds=fastest_seconds(lambda: session.run(feeds)))


def fastest_seconds(run: Callable[[], object]) -> float:
    """Shortest time of `run` in seconds: one warm-up, then at least 5 runs and 0.3 s, at most 200 runs."""
    run()
    times: list[float] = []
    while len(times) < _RUNS[0] or (sum(times) < _SECONDS and len(times) < _RUNS[1]):
        start = time.perf_counter()
        run()
        times.append(time.perf_counter() - start)
    return min(times)
