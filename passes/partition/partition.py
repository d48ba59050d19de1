"""The pass that annotates a model with where its nodes run."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar, Literal

import onnx
from onnx import inliner

from optc.models.errors import InputError
from optc.models.model import Model
from optc.passes.base import Context, Contract, Exact, Progress
from optc.passes.partition.annotations import annotated
from optc.passes.partition.cluster import Cluster, load_cluster
from optc.passes.partition.solve import Solution, search, solve

Objective = Literal["throughput", "latency"]


@dataclass(frozen=True)
class Partition:
    """Annotate nodes with pipeline stages and sharded tensors: `partition{stages=4,tensor=2,cluster=h200-8}`.

    `data`, `stages`, `tensor`: replicas, pipeline stages of each, devices that share the work of a stage.
    `devices`, in place of them: all ways to use so many are tried, and the best by `objective` is taken.
    `cluster`: a preset's name or a `.toml` file. `measure`: the nodes' times are measured here, in ONNX
    Runtime with one thread. The graph stays as it is; local functions are inlined.
    """

    name: ClassVar[str] = "partition"
    contract: ClassVar[Contract] = Exact()

    data: int = 1
    stages: int = 1
    tensor: int = 1
    devices: int | None = None
    objective: Objective = "throughput"
    cluster: str = "cpu-cores"
    measure: bool = False

    def __post_init__(self) -> None:
        degrees = (self.data, self.stages, self.tensor)
        if self.devices is not None and degrees != (1, 1, 1):
            raise InputError("partition: give devices, or data, stages and tensor, not both")
        for name, degree in zip(("data", "stages", "tensor"), degrees, strict=True):
            if degree < 1:
                raise InputError(f"partition: {name}={degree}: there must be at least 1")
        if self.measure and (self.devices is not None or self.tensor > 1):
            raise InputError("partition: measure goes with stages and data only")
        if self.devices is not None and self.devices < 1:
            raise InputError(f"partition: devices={self.devices}: there must be at least 1")

    def run(self, model: Model, context: Context) -> bool:
        """Annotate the model; what was annotated before is replaced (`InputError` where none is feasible)."""
        before = model.to_proto(embed=False)
        proto = inlined(before)
        if proto is not before:
            model.replace(proto)
        cluster = load_cluster(self.cluster)
        solution = self.solution(model, cluster, context.seed, context.progress)
        assignment = solution.assignment
        context.facts.update(
            data=assignment.data,
            stages=assignment.stages,
            tensor=assignment.tensor,
            throughput=solution.throughput,
            latency=solution.latency,
            bound=solution.plan.bound,
            gap=solution.plan.gap,
        )
        names = [device.name for device in cluster.devices[: assignment.devices]]
        after = annotated(model, assignment, names)
        if after == before:
            return False
        model.replace(after)
        return True

    def solution(
        self, model: Model, cluster: Cluster, seed: int = 0, progress: Progress | None = None
    ) -> Solution:
        """The partition of a model without local functions over `cluster`, and what it costs."""
        if self.devices is not None:
            return search(model, cluster, self.devices, self.objective, seed, progress)
        return solve(model, cluster, self.data, self.stages, self.tensor, seed, self.measure)


def inlined(proto: onnx.ModelProto) -> onnx.ModelProto:
    """The model with its local functions inlined; itself where it has none."""
    return inliner.inline_local_functions(proto) if proto.functions else proto
