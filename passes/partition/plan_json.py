"""A pipeline plan as JSON, with all that is needed to recompute it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict
from typing import Any

from optc.models.errors import InputError
from optc.passes.partition.cluster import Cluster, Device, Link
from optc.passes.partition.plan import Plan
from optc.passes.partition.problem import Item, Problem, Value, Weight


def plan_json(problem: Problem, cluster: Cluster, plan: Plan) -> dict[str, Any]:
    """JSON types only; seconds, bytes and multiply-accumulates, as the classes of each part define them.

    - `items`: `name`, `seconds`, `macs`; in topological order, numbered from 0
    - `times`: of each device the seconds of every item; empty where `seconds` holds for all devices
    - `values`: `name`, `producer` (an item's number, -1: the caller), `readers` (items), `bytes`, `kept`
    - `weights`: `name`, `readers`, `bytes`; `unknown`: values of unknown size, which stand as 0 bytes
    - `cluster`: `name`; `devices` (`name`, `macs_per_second`, `bytes_per_second`, `memory_bytes`), of which
      stage s runs on number s; `links` (`between`: two names, `latency_s`, `bytes_per_second`).
      Only the plan's devices.
    - `stage`: of each item; `compute`, `receive`, `memory`: of each stage
    - `sent`: `from` and `to` (stages) and `bytes` of a micro-batch; ascending
    - `bottleneck`: seconds of the slowest stage; `bound`: no plan is faster; `gap`: bottleneck / bound - 1
    """
    devices = cluster.devices[: len(plan.compute)]
    return {
        "items": [{"name": i.name, "seconds": i.seconds, "macs": i.macs} for i in problem.items],
        "times": [list(row) for row in problem.times[: len(devices)]],
        "values": [
            {
                "name": v.name,
                "producer": v.producer,
                "readers": list(v.readers),
                "bytes": v.bytes,
                "kept": v.kept,
            }
            for v in problem.values
        ],
        "weights": [{"name": w.name, "readers": list(w.readers), "bytes": w.bytes} for w in problem.weights],
        "unknown": problem.unknown,
        "cluster": cluster_json(Cluster(cluster.name, devices, cluster.links, cluster.caller)),
        "stage": list(plan.stage),
        "compute": list(plan.compute),
        "receive": list(plan.receive),
        "sent": [{"from": a, "to": b, "bytes": size} for (a, b), size in sorted(plan.sent.items())],
        "memory": list(plan.memory),
        "bottleneck": plan.bottleneck,
        "bound": plan.bound,
        "gap": plan.gap,
    }


def cluster_json(cluster: Cluster) -> dict[str, Any]:
    """`name`, `devices`, the `links` between them and to the `caller` (or null), as in `plan_json`."""
    names = {device.name for device in cluster.devices}
    return {
        "name": cluster.name,
        "devices": [asdict(device) for device in cluster.devices],
        "links": [
            {"between": list(ends), **asdict(link)}
            for ends, link in cluster.links.items()
            if names.issuperset(ends)
        ],
        "caller": asdict(cluster.caller) if cluster.caller else None,
    }


def read_plan(data: Mapping[str, Any]) -> tuple[Problem, Cluster, Plan]:
    """What `plan_json` wrote; the cluster has only the plan's devices.

    `InputError` where a part is missing or of a wrong kind; whether the figures are right is for
    `check_plan` to say.
    """
    try:
        return _problem(data), read_cluster(data["cluster"]), _plan(data)
    except KeyError as error:
        raise InputError(f"plan: {error} is missing") from error
    except (TypeError, ValueError) as error:
        raise InputError(f"plan: {error}") from error


def _problem(data: Mapping[str, Any]) -> Problem:
    return Problem(
        tuple(Item(i["name"], i["seconds"], i["macs"]) for i in data["items"]),
        tuple(
            Value(v["name"], v["producer"], tuple(v["readers"]), v["bytes"], v["kept"])
            for v in data["values"]
        ),
        tuple(Weight(w["name"], tuple(w["readers"]), w["bytes"]) for w in data["weights"]),
        data["unknown"],
        tuple(tuple(row) for row in data["times"]),
    )


def read_cluster(data: Mapping[str, Any]) -> Cluster:
    """What `cluster_json` wrote (`InputError`: a part is missing or of a wrong kind)."""
    figures = ("macs_per_second", "bytes_per_second", "memory_bytes")
    links = {}
    try:
        for link in data["links"]:
            a, b = link["between"]
            links[a, b] = _link(link)
        devices = tuple(Device(d["name"], *(_above_0(d, f) for f in figures)) for d in data["devices"])
        caller = data.get("caller")
        return Cluster(data["name"], devices, links, _link(caller) if caller else None)
    except KeyError as error:
        raise InputError(f"plan: its cluster lacks {error}; partition the model again") from error
    except (TypeError, ValueError) as error:
        raise InputError(f"plan: its cluster is damaged ({error}); partition the model again") from error


def _link(data: Mapping[str, Any]) -> Link:
    latency = data["latency_s"]
    return Link(_above_0(data, "latency_s") if latency != 0 else 0.0, _above_0(data, "bytes_per_second"))


def _above_0(data: Mapping[str, Any], key: str) -> Any:
    value = data[key]
    if type(value) not in (int, float) or not 0 < value < float("inf"):
        raise ValueError(f"{key} is {value!r}")
    return value


def _plan(data: Mapping[str, Any]) -> Plan:
    return Plan(
        tuple(data["stage"]),
        tuple(data["compute"]),
        tuple(data["receive"]),
        {(s["from"], s["to"]): s["bytes"] for s in data["sent"]},
        tuple(data["memory"]),
        data["bound"],
    )
