"""From a model and a cluster to a partition, and what it costs."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace

from optc.models.errors import InputError
from optc.models.model import Model
from optc.passes.base import NoProgress, Progress
from optc.passes.cost import Cost
from optc.passes.partition.assignment import Assignment
from optc.passes.partition.cluster import Cluster, Link
from optc.passes.partition.measured import with_measured_seconds
from optc.passes.partition.mesh import check_mesh, group_link, slowest_device, stage_cluster
from optc.passes.partition.plan import Plan, make_plan
from optc.passes.partition.problem import Problem
from optc.passes.partition.sharding.layout import Sharding
from optc.passes.partition.sharding.problem import sharded_problem
from optc.passes.partition.sharding.search import shard
from optc.passes.partition.stages import stages as cut

Shardings = dict[tuple[float, float, Link, int], Sharding]
"""By a device's multiply-accumulates and bytes a second, the link within a group, and the group's size."""


@dataclass(frozen=True)
class Solution:
    """A partition and what it costs.

    `problem` holds what each device of a group does, collectives included; `cluster` a device for each stage,
    and `plan` what the stages of one replica cost on it. `seconds`: of each node by name, collectives aside.
    """

    assignment: Assignment
    problem: Problem
    cluster: Cluster
    plan: Plan
    seconds: Mapping[str, float]

    @property
    def throughput(self) -> float:
        """Micro-batches a second of all replicas together, once the pipeline is full."""
        return self.assignment.data / self.plan.bottleneck if self.plan.bottleneck else float("inf")

    @property
    def latency(self) -> float:
        """Seconds of one micro-batch from the first stage to the end of the last, no other under way."""
        return sum(self.plan.compute) + sum(self.plan.receive)

    @property
    def cost(self) -> Cost:
        """One micro-batch on one replica: its latency, and the bytes that go between stages."""
        return Cost(f"estimated: {self.cluster.name}", self.latency, bytes=sum(self.plan.sent.values()))


def solve(
    model: Model,
    cluster: Cluster,
    data: int = 1,
    stages: int = 1,
    tensor: int = 1,
    seed: int = 0,
    measure: bool = False,
    known: Shardings | None = None,
) -> Solution:
    """The fastest partition found into `data` replicas of `stages` stages of `tensor` devices.

    `measure`: the nodes' times are taken on this machine (see `measured`), not modelled. Where no layout over
    `tensor` devices is faster than one device, the work of a stage is not shared, and the solution has groups
    of one. `known`: shardings of this model that were found before; grows. `InputError`: times of shared work
    or of unequal devices to be measured, too few devices, a link that is missing, more stages than nodes, too
    little memory.
    """
    check_mesh(cluster, data, stages, tensor)
    if measure and tensor > 1:
        raise InputError(
            f"partition: tensor={tensor}: times of shared work cannot be measured, only modelled"
        )
    sharding = _sharding(model, cluster, (data, stages, tensor), {} if known is None else known)
    problem, groups = _costs(model, cluster, data, stages, sharding)
    if measure:
        if len({(d.macs_per_second, d.bytes_per_second) for d in groups.devices[:stages]}) > 1:
            raise InputError(
                f"partition: times measured here are those of equal devices; cluster '{cluster.name}' has "
                "faster and slower ones"
            )
        problem = with_measured_seconds(problem, model, seed)
    plan = cut(problem, groups, stages, seed)
    stage = {item.name: at for item, at in zip(problem.items, plan.stage, strict=True)}
    seconds = _seconds(model, cluster, data, stages, sharding, problem)
    return Solution(Assignment(data, stage, sharding), problem, _first(groups, stages), plan, seconds)


def evaluate(model: Model, cluster: Cluster, assignment: Assignment, seed: int = 0) -> Solution:
    """What a given partition costs on `cluster`, and the bound of all with its degrees.

    `InputError`: too few devices, a link that is missing.
    """
    data, stages, tensor = assignment.data, assignment.stages, assignment.tensor
    check_mesh(cluster, data, stages, tensor)
    problem, groups = _costs(model, cluster, data, stages, assignment.sharding)
    stage = [assignment.stage[item.name] for item in problem.items]
    try:
        bound = cut(problem, groups, stages, seed).bound
    except InputError:  # nothing fits into the devices' memory: this does not either
        bound = 0.0
    plan = make_plan(problem, groups, stage, bound)
    seconds = _seconds(model, cluster, data, stages, assignment.sharding, problem)
    return Solution(assignment, problem, _first(groups, stages), plan, seconds)


def _first(cluster: Cluster, count: int) -> Cluster:
    return Cluster(cluster.name, cluster.devices[:count], cluster.links, cluster.caller)


def search(
    model: Model,
    cluster: Cluster,
    devices: int,
    objective: str = "throughput",
    seed: int = 0,
    progress: Progress | None = None,
) -> Solution:
    """The best of all ways to use `devices` devices as replicas × stages × groups.

    Best by `objective` ("throughput" or "latency"), then by the other. `InputError` where none is feasible,
    with the reason of the one with most stages.
    """
    best: Solution | None = None
    reason: InputError | None = None
    known: Shardings = {}
    ways = factorizations(devices)
    for data, stages, tensor in (progress or NoProgress()).track(ways, "trying partitions", len(ways)):
        try:
            found = solve(model, cluster, data, stages, tensor, seed, known=known)
        except InputError as error:
            reason = reason or error
            continue
        if found.assignment.tensor == tensor and (best is None or _better(found, best, objective)):
            best = found
    if best is None:
        raise reason or InputError(f"partition: devices={devices}: there must be at least 1")
    return best


def factorizations(devices: int) -> list[tuple[int, int, int]]:
    """All (data, stages, tensor) with that product; those of most stages first."""
    whole = range(1, devices + 1)
    found = [
        (data, stages, devices // (data * stages))
        for stages in whole
        for data in whole
        if devices % (data * stages) == 0
    ]
    return sorted(found, key=lambda degrees: -degrees[1])


def _sharding(model: Model, cluster: Cluster, degrees: tuple[int, int, int], known: Shardings) -> Sharding:
    """The fastest layouts over a group; where their weights do not fit its stages, some of fewer bytes."""
    data, stages, tensor = degrees
    if tensor == 1:
        return Sharding(1, {})
    device = slowest_device(cluster, data * stages * tensor)
    link = group_link(cluster, data, stages, tensor)
    room = device.memory_bytes * stages
    key = (device.macs_per_second, device.bytes_per_second, link, tensor)
    if key not in known:
        known[key] = shard(model, device, link, tensor)
    found = known[key]
    weights = sharded_problem(model, found, device, link).weights
    if sum(w.bytes for w in weights) > room:
        found = shard(model, device, link, tensor, room)
    return found if found.layouts else Sharding(1, {})


def _better(a: Solution, b: Solution, objective: str) -> bool:
    keys = [(-s.throughput, s.latency) for s in (a, b)]
    first, second = (key if objective == "throughput" else key[::-1] for key in keys)
    return first < second


def _seconds(
    model: Model, cluster: Cluster, data: int, stages: int, sharding: Sharding, problem: Problem
) -> dict[str, float]:
    """What each node takes on a device of its group, where collectives take no time."""
    if sharding.devices > 1:
        device = slowest_device(cluster, data * stages * sharding.devices)
        problem = sharded_problem(model, sharding, device, Link(0.0, float("inf")))
    return {item.name: item.seconds for item in problem.items}


def _costs(
    model: Model, cluster: Cluster, data: int, stages: int, sharding: Sharding
) -> tuple[Problem, Cluster]:
    """What each device of a group does, and a device for each stage.

    Groups are all taken to be as slow as their slowest device: the layouts are the same for all.
    """
    tensor = sharding.devices
    # Of one replica all devices, so that the solver can say how many stages would fit.
    most = len(cluster.devices) // tensor if data == 1 else stages
    groups = stage_cluster(cluster, data, most, tensor)
    if tensor == 1:
        return Problem.of(model, *groups.devices), groups
    device = slowest_device(cluster, data * stages * tensor)
    slow = tuple(replace(device, name=d.name, memory_bytes=d.memory_bytes) for d in groups.devices)
    groups = replace(groups, devices=slow)
    link = group_link(cluster, data, stages, tensor)
    return sharded_problem(model, sharding, device, link), groups
