"""Node times measured on this machine, in place of modelled ones."""

from __future__ import annotations

import json
import tempfile
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from statistics import median
from typing import Any

from optc.models.errors import InputError
from optc.models.model import Model
from optc.models.session import Session, first_line
from optc.models.wiring import node_name
from optc.passes.partition.order import edges
from optc.passes.partition.problem import Problem
from optc.passes.verify.inputs import generate_runnable

RUNS = 20
"""Runs that are profiled, after one that is not."""

_SUFFIX = "_kernel_time"


def with_measured_seconds(problem: Problem, model: Model, seed: int = 0) -> Problem:
    """`problem` with the seconds that each node takes in ONNX Runtime: one thread, optimizations on.

    Medians of `RUNS` runs on generated inputs. Where ONNX Runtime makes one node of several, they share its
    time as their modelled times stand to each other; what it adds (reorders) counts to the node behind.
    `InputError` where it does not run.
    """
    times = _kernel_seconds(model, seed)
    _, after = edges(problem)
    groups: dict[int, list[int]] = {}
    for place in reversed(range(len(problem.items))):
        groups.setdefault(_measured(problem, place, times, after), []).append(place)
    seconds = [0.0] * len(problem.items)
    for place, members in groups.items():
        modelled = [problem.items[i].seconds for i in members]
        total, whole = times.get(problem.items[place].name, 0.0), sum(modelled)
        for i, share in zip(members, modelled, strict=True):
            seconds[i] = total * share / whole if whole else total / len(members)
    items = tuple(replace(item, seconds=s) for item, s in zip(problem.items, seconds, strict=True))
    return replace(problem, items=items, times=())


def _measured(problem: Problem, place: int, times: Mapping[str, float], after: list[list[int]]) -> int:
    """The node that was run for the one at `place`: itself, else the first behind it that was run."""
    while problem.items[place].name not in times and after[place]:
        place = after[place][0]
    return place


def _kernel_seconds(model: Model, seed: int) -> dict[str, float]:
    """Median seconds by node, of the nodes that are run."""
    proto = model.to_proto()
    for node in proto.graph.node:
        node.name = node_name(node)
    names = {node.name for node in proto.graph.node}
    feeds = generate_runnable(model, Session(model), seed)
    events = _profile(proto.SerializeToString(), feeds)
    found: dict[str, list[float]] = {}
    waiting, end = 0.0, 0.0
    for event in events:
        if float(event["ts"]) < end:
            continue  # inside a subgraph: its node's time has it already
        end = float(event["ts"]) + float(event["dur"])
        kernel = event["name"].removesuffix(_SUFFIX)
        name = next((n for n in (kernel, kernel.rpartition("_")[0]) if n in names), None)
        if name is None:
            waiting += event["dur"] * 1e-6
        else:
            found.setdefault(name, []).append(event["dur"] * 1e-6 + waiting)
            waiting = 0.0
    return {name: median(seconds[1:] or seconds) for name, seconds in found.items()}


def _profile(serialized: bytes, feeds: Mapping[str, Any]) -> list[dict[str, Any]]:
    """ONNX Runtime's events of nodes, in the order of their begin."""
    import onnxruntime as ort

    with tempfile.TemporaryDirectory() as folder:
        options = ort.SessionOptions()
        options.log_severity_level = 4
        options.intra_op_num_threads = 1
        options.enable_profiling = True
        options.profile_file_prefix = str(Path(folder) / "profile")
        try:
            session = ort.InferenceSession(serialized, options, ["CPUExecutionProvider"])
            for _ in range(RUNS + 1):
                session.run(None, dict(feeds))
        except Exception as error:
            raise InputError(f"partition: ONNX Runtime cannot time the model: {first_line(error)}") from error
        events = json.loads(Path(session.end_profiling()).read_text())
    nodes = [e for e in events if e.get("cat") == "Node" and e["name"].endswith(_SUFFIX)]
    return sorted(nodes, key=lambda event: float(event["ts"]))
