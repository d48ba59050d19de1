"""Recomputes a plan's validity and cost from the definitions alone, with none of the solver's code."""

from __future__ import annotations

from math import isclose

from optc.models.errors import CheckError
from optc.passes.partition.cluster import Cluster
from optc.passes.partition.plan import Plan
from optc.passes.partition.problem import Problem


def check_plan(problem: Problem, cluster: Cluster, plan: Plan) -> None:
    """`CheckError` where the plan is no partition, an edge goes backward, or a figure is another."""
    count = len(plan.compute)
    stage = plan.stage
    if len(stage) != len(problem.items) or set(stage) != set(range(count)):
        raise CheckError(f"plan: {len(problem.items)} items are not spread over stages 0 to {count - 1}")
    for value in problem.values:
        for reader in value.readers:
            if value.producer >= 0 and stage[value.producer] > stage[reader]:
                name = problem.items[reader].name
                raise CheckError(f"plan: '{value.name}' goes back to stage {stage[reader]}, to '{name}'")
    pairs = [(a, b) for a in range(count) for b in range(count) if a != b]
    sent = {(a, b): _sent(problem, stage, a, b) for a, b in pairs}
    if dict(plan.sent) != {pair: size for pair, size in sent.items() if size}:
        raise CheckError("plan: the bytes sent between stages are others")
    for at in range(count):
        _check_stage(problem, cluster, plan, at)
    if plan.bottleneck < plan.bound * (1 - 1e-9):
        raise CheckError(f"plan: the bottleneck {plan.bottleneck} is below its bound {plan.bound}")


def _sent(problem: Problem, stage: tuple[int, ...], a: int, b: int) -> int:
    """Bytes that stage `a` sends to `b`."""
    made = [v for v in problem.values if v.producer >= 0 and stage[v.producer] == a]
    return sum(v.bytes for v in made if any(stage[r] == b for r in v.readers))


def _check_stage(problem: Problem, cluster: Cluster, plan: Plan, at: int) -> None:
    compute = sum(t for t, s in zip(problem.on(at), plan.stage, strict=True) if s == at)
    receive = 0.0
    for (a, b), size in plan.sent.items():
        if b == at:
            link = cluster.link(cluster.devices[a].name, cluster.devices[b].name)
            receive += link.latency_s + size / link.bytes_per_second
    memory = _memory(problem, plan.stage, at, len(plan.compute))
    for what, got, want in (
        ("compute", plan.compute[at], compute),
        ("receive", plan.receive[at], receive),
        ("memory", plan.memory[at], memory),
    ):
        if not isclose(got, want, rel_tol=1e-9, abs_tol=1e-15):
            raise CheckError(f"plan: stage {at}'s {what} is {want}, not {got}")
    device = cluster.devices[at]
    if memory > device.memory_bytes:
        raise CheckError(f"plan: stage {at} needs {memory} bytes, '{device.name}' has {device.memory_bytes}")


def _memory(problem: Problem, stage: tuple[int, ...], at: int, count: int) -> int:
    """As `plan.stage_memory` says, one moment after the other."""
    weights = sum(w.bytes for w in problem.weights if at in {stage[r] for r in w.readers})
    most = 0
    for now in (place for place, s in enumerate(stage) if s == at):
        alive = 0
        for value in problem.values:
            uses = [place for place in (value.producer, *value.readers) if place >= 0 and stage[place] == at]
            stays = value.producer >= 0 and stage[value.producer] == at
            stays &= value.kept or any(stage[r] != at for r in value.readers)
            if uses and min(uses) <= now and (stays or now <= max(uses)):
                alive += value.bytes
        most = max(most, alive)
    return weights + (count - at) * most
