"""How near pipeline partitions come to their bounds, and to what others do.

Seven networks in 2, 4, 8 and 16 stages on described clusters, each with the bottlenecks of equal node counts,
equal FLOPs, and the rule of Olive's SplitModel; and made graphs of 10,000 nodes in 16 stages. Every plan is
checked by `partition_check.py` from its JSON alone. Times are seconds, as the clusters' description files
model them, but `solve_s`, which is measured.
"""

from __future__ import annotations

import time
from collections.abc import Iterator, Sequence
from functools import cache
from itertools import chain
from typing import Any

import onnx
from partition_check import faults
from partition_graphs import LARGE, NETWORKS, bound_model, clusters, large_cluster, large_graph, unequal
from partition_peers import peers

from optc.models.errors import InputError
from optc.passes.analysis.counts import inferred_graph
from optc.passes.partition.cluster import Cluster
from optc.passes.partition.plan import Plan, make_plan
from optc.passes.partition.plan_json import plan_json
from optc.passes.partition.problem import Problem
from optc.passes.partition.stages import stages

STAGES = (2, 4, 8, 16)
SEEDS = (0, 1, 2)
MEAN, WORST, LARGE_GAP, LARGE_S = 0.02, 0.05, 0.10, 10.0
TIGHT = 0.95
"""Of the memory that the best plan's fullest device needs: what the devices of tight memory have."""

Row = dict[str, Any]


def network_rows() -> Iterator[Row]:
    """A row for each cluster, network, and number of stages."""
    for cluster, batch in (*clusters(), (unequal(), 1)):
        for name, build in NETWORKS.items():
            model = bound_model(build(), batch)
            problem = Problem.of(model, *cluster.devices)
            graph = inferred_graph(model)
            for count in STAGES:
                yield {
                    "graph": name,
                    "nodes": len(problem.items),
                    "cluster": cluster.name,
                    "batch": batch,
                    "stages": count,
                } | _row(problem, graph, cluster, count)


def _row(problem: Problem, graph: onnx.GraphProto, cluster: Cluster, count: int) -> Row:
    @cache
    def ours(count: int) -> Plan | str:
        try:
            return stages(problem, cluster, count)
        except InputError as error:
            return str(error)

    started = time.perf_counter()
    plan = ours(count)
    seconds = time.perf_counter() - started
    if isinstance(plan, str):
        return {"failed": plan}
    row = _figures(problem, cluster, plan, seconds)
    others: Row = {}
    for peer, stage in peers(problem, graph, count).items():
        if isinstance(stage, str):
            others[peer] = {"failed": stage}
            continue
        other = make_plan(problem, cluster, stage)
        used = len(other.compute)
        against = ours(used)
        fits = all(m <= d.memory_bytes for m, d in zip(other.memory, cluster.devices, strict=False))
        others[peer] = {"stages": used, "bottleneck_s": other.bottleneck, "fits": fits}
        if fits:
            # A peer that leaves stages empty is held against our plan of as many stages as it has.
            others[peer]["ours_s"] = against.bottleneck if isinstance(against, Plan) else None
    return row | {"peers": others}


def _figures(problem: Problem, cluster: Cluster, plan: Plan, seconds: float) -> Row:
    return {
        "bottleneck_s": plan.bottleneck,
        "bound_s": plan.bound,
        "gap": plan.gap,
        "speedup": problem.seconds / plan.bottleneck,
        "largest_receive_s": max(plan.receive),
        "solve_s": round(seconds, 2),
        "faults": faults(plan_json(problem, cluster, plan)),
    }


def large_rows() -> Iterator[Row]:
    """A row for each kind of made graph and each seed."""
    for kind, reach in LARGE.items():
        for seed in SEEDS:
            problem, cluster = large_graph(reach, seed), large_cluster(10**15)
            if kind == "tight memory":
                free = stages(problem, cluster, max(STAGES))
                cluster = large_cluster(int(max(free.memory) * TIGHT))
            row = {
                "graph": f"made, {kind}",
                "nodes": len(problem.items),
                "seed": seed,
                "cluster": cluster.name,
                "stages": max(STAGES),
            }
            started = time.perf_counter()
            try:
                plan = stages(problem, cluster, max(STAGES))
            except InputError as error:
                yield row | {"failed": str(error)}
                continue
            yield row | _figures(problem, cluster, plan, time.perf_counter() - started)


def bars(rows: Sequence[Row]) -> dict[str, Any]:
    """Whether each bar holds; gaps by cluster and batch."""
    solved = [row for row in rows if "failed" not in row]
    found: dict[str, Any] = {"the independent checker faults no plan": not any(r["faults"] for r in solved)}
    networks = [row for row in solved if "peers" in row]
    by_cluster: dict[str, list[float]] = {}
    for row in networks:
        by_cluster.setdefault(f"{row['cluster']}, batch {row['batch']}", []).append(row["gap"])
    found["gaps"] = {
        name: {
            "plans": len(gaps),
            "mean": sum(gaps) / len(gaps),
            "worst": max(gaps),
            "holds": sum(gaps) / len(gaps) <= MEAN and max(gaps) <= WORST,
        }
        for name, gaps in by_cluster.items()
    }
    peers = [peer for row in networks for peer in row["peers"].values() if "ours_s" in peer]
    found["never worse than a peer"] = all(
        p["ours_s"] is not None and p["ours_s"] <= p["bottleneck_s"] * (1 + 1e-9) for p in peers
    )
    for kind in LARGE:
        large = [row for row in rows if row["graph"] == f"made, {kind}"]
        found[f"10,000 nodes, {kind}: gap at most {LARGE_GAP:.0%}"] = all(
            "gap" in row and row["gap"] <= LARGE_GAP for row in large
        )
        found[f"10,000 nodes, {kind}: in {LARGE_S:.0f} s"] = all(
            "solve_s" in row and row["solve_s"] <= LARGE_S for row in large
        )
    return found


def measure() -> tuple[list[Row], dict[str, Any]]:
    """Rows and bars."""
    rows = []
    for row in chain(network_rows(), large_rows()):
        print(_line(row), flush=True)
        rows.append(row)
    return rows, bars(rows)


def _line(row: Row) -> str:
    text = f"{row['graph']:20} {row['cluster'][:24]:24} {row.get('batch', ''):3} K={row['stages']:2}"
    if "failed" in row:
        return f"{text} {row['failed']}"
    return f"{text} {row['bottleneck_s'] * 1e3:9.3f} ms  gap {row['gap']:8.3%}  {row['solve_s']:5.1f} s"
