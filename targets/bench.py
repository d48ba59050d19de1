"""An artifact's speed beside ONNX Runtime's on the same model, in one run on one machine."""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable, Mapping
from typing import Any

from numpy.typing import NDArray

from optc.models.session import Session
from optc.targets.artifact import Artifact

_SECONDS = 3.0
_RUNS = (3, 100)


def bench(artifact: Artifact, feeds: Mapping[str, NDArray[Any]]) -> dict[str, dict[str, float]]:
    """Seconds of one run of the artifact, and of ONNX Runtime (graph optimizations on), interleaved.

    Rows by what ran: `median`, `low` (fastest), `high` (slowest), all in seconds, and `ratio`, the median as
    a multiple of ONNX Runtime's. Raises `MissingError` where the artifact cannot run here.
    """
    runner = artifact.runner()
    session = Session(artifact.model, optimize=True)
    runs: dict[str, Callable[[], object]] = {
        f"optc ({artifact.target.name})": lambda: runner.run(feeds),
        "onnxruntime": lambda: session.run(feeds),
    }
    times = interleaved(runs)
    reference = statistics.median(times["onnxruntime"])
    return {
        name: {
            "median": statistics.median(values),
            "low": min(values),
            "high": max(values),
            "ratio": statistics.median(values) / reference,
        }
        for name, values in times.items()
    }


def interleaved(runs: Mapping[str, Callable[[], object]]) -> dict[str, list[float]]:
    """Times in seconds of each of `runs`, taken in turn so that a noisy machine is noisy for all.

    One warm-up each, then rounds for about 3 seconds: at least 3, at most 100.
    """
    for run in runs.values():
        run()
    times: dict[str, list[float]] = {name: [] for name in runs}
    start = time.perf_counter()
    for index in range(_RUNS[1]):
        if index >= _RUNS[0] and time.perf_counter() - start > _SECONDS:
            break
        for name, run in runs.items():
            begin = time.perf_counter()
            run()
            times[name].append(time.perf_counter() - begin)
    return times
