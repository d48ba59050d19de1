"""Whether the ranks of partitioned networks together compute what the whole network does."""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from partition_graphs import NETWORKS, bound_model

from optc.models.model import Model
from optc.models.session import Arrays, Session
from optc.passes.base import Context, Exact
from optc.passes.canonicalize.canonicalize import Canonicalize
from optc.passes.partition.cluster import Cluster, Device, Link
from optc.passes.partition.solve import solve
from optc.passes.verify.compare import compare
from optc.passes.verify.inputs import generate_runnable
from optc.targets.cluster.local import LocalEngine
from optc.targets.cluster.split import split

DEGREES = tuple((k, 1) for k in range(2, 9)) + tuple((1, t) for t in range(2, 9)) + ((2, 2), (2, 4), (4, 2))
"""Stages and devices that share a stage's work."""

REPLICAS = (2, 4, 8)
"""Each takes one of as many different samples."""


@dataclass(frozen=True)
class Part:
    """A part in ONNX Runtime."""

    session: Session

    def run(self, feeds: Mapping[str, Any]) -> Arrays:
        """Its outputs."""
        return self.session.run(feeds)


def cluster(count: int) -> Cluster:
    """Slow devices that fast links join: every layout that can pay does."""
    devices = tuple(Device(f"d{i}", 25.6e9, 0.8e9, 2**40) for i in range(count))
    pairs = [(a.name, b.name) for i, a in enumerate(devices) for b in devices[i + 1 :]]
    return Cluster("fast-links", devices, dict.fromkeys(pairs, Link(2e-6, 100e9)))


def network(name: str) -> Model:
    """One of the networks, at a batch of one, canonical: what `optc partition` cuts."""
    model = bound_model(NETWORKS[name](), 1)
    Canonicalize().run(model, Context())
    return model


def measure() -> tuple[list[dict[str, Any]], dict[str, Any]]:
    """A row for every network and degree, and the bars."""
    found = []
    for row in (r for name in NETWORKS for r in rows(name)):
        print({k: v for k, v in row.items() if k != "collectives"}, flush=True)
        found.append(row)
    stages = [row for row in found if row["tensor"] == 1]
    return found, {
        "pipelines and replicas give the same bits, graph optimizations off": all(
            r["equal_bits"] for r in stages
        ),
        "all within the tolerance of Exact, optimizations off and on": not any(r["broken"] for r in found),
        "work is shared as asked": all(r["shared"] == r["tensor"] for r in found),
    }


def rows(name: str) -> Iterator[dict[str, Any]]:
    """A row for every degree of a network."""
    model = network(name)
    feeds = generate_runnable(model, Session(model), 0)
    wanted = {optimize: Session(model, optimize, 1).run(feeds) for optimize in (False, True)}
    for stages, tensor in DEGREES:
        degrees = {"network": name, "data": 1, "stages": stages, "tensor": tensor}
        yield degrees | _row(model, feeds, wanted, stages, tensor)
    for replicas in REPLICAS:
        yield {"network": name, "data": replicas, "stages": 1, "tensor": 1} | _replicas(model, replicas)


def _replicas(model: Model, count: int) -> dict[str, Any]:
    """Samples shared out over replicas, as an engine does, beside the whole network on each sample."""
    solution = solve(model, cluster(count), count, 1, 1)
    program, parts = split(model, solution.assignment, {})
    whole = Session(model, threads=1)
    samples = [generate_runnable(model, whole, seed) for seed in range(count)]
    engines = [
        LocalEngine(program, {n: Part(Session(part, threads=1)) for n, part in parts.items()})
        for _ in range(count)
    ]
    pairs = [(whole.run(s), e.run_one(s)) for s, e in zip(samples, engines, strict=True)]
    bits = all(np.array_equal(found[n], array) for wanted, found in pairs for n, array in wanted.items())
    errors = max(_error(wanted[n], found[n]) for wanted, found in pairs for n in wanted)
    return {
        "shared": 1,
        "parts": len(parts) * count,
        "collectives": {},
        "equal_bits": bits,
        "max_error": {"off": errors, "on": errors},
        "broken": [],
        "seconds": 0.0,
    }


def _row(
    model: Model, feeds: Arrays, wanted: Mapping[bool, Arrays], stages: int, tensor: int
) -> dict[str, Any]:
    start = time.perf_counter()
    solution = solve(model, cluster(stages * tensor), 1, stages, tensor)
    program, parts = split(model, solution.assignment, {})
    seconds = time.perf_counter() - start
    found = {
        optimize: LocalEngine(
            program, {n: Part(Session(part, optimize, 1)) for n, part in parts.items()}
        ).run_one(feeds)
        for optimize in (False, True)
    }
    bits = all(np.array_equal(found[False][n], array) for n, array in wanted[False].items())
    broken = [d.broken for o in (False, True) for d in compare(wanted[o], found[o], Exact()) if d.broken]
    return {
        "shared": solution.assignment.tensor,
        "parts": len(parts),
        "collectives": dict(Counter(c.kind for c in program.collectives)),
        "equal_bits": bits,
        "max_error": {
            "off" if not o else "on": max(_error(wanted[o][n], found[o][n]) for n in wanted[o])
            for o in (False, True)
        },
        "broken": broken,
        "seconds": round(seconds, 2),
    }


def _error(wanted: Any, found: Any) -> float:
    """The largest difference as a share of the largest value."""
    scale = float(np.abs(wanted).max()) or 1.0
    return float(np.abs(found - wanted).max()) / scale
