"""From a model to a plan in a folder: what `optc partition` does."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from math import inf
from pathlib import Path
from typing import Any

from optc.models.errors import InputError
from optc.models.model import Model
from optc.models.source import open_source
from optc.passes.analysis.counts import inferred_graph
from optc.passes.base import Pass
from optc.passes.partition.annotations import annotated
from optc.passes.partition.cluster import Cluster, load_cluster
from optc.passes.partition.partition import Partition, inlined
from optc.passes.partition.plan import stage_memory
from optc.passes.partition.plan_json import cluster_json, plan_json
from optc.passes.partition.read_annotations import is_annotated, read_annotations
from optc.passes.partition.solve import Solution, evaluate
from optc.passes.text import to_text
from optc.passes.verify.checked import Checks, Outcome, run_checked
from optc.targets.artifact import MODEL, check_replaceable, package_versions, staged
from optc.targets.base import Target
from optc.targets.cluster.check import check_plan_folder
from optc.targets.cluster.picture import draw_plan
from optc.targets.cluster.plan_folder import PlanFolder
from optc.targets.cluster.program import Program
from optc.targets.cluster.program_json import program_json
from optc.targets.cluster.schedule import Prediction, Schedule, predict
from optc.targets.cluster.simulate import simulate
from optc.targets.cluster.split import split
from optc.targets.compiler import make_passes, make_target, refuse_unknown_domains

PICTURE = "plan.svg"


@dataclass(frozen=True)
class Result:
    """What `partition` leaves: the plan on disk, what it costs, and what the passes before it did.

    `notes`: what was asked for and not done, and why.
    """

    plan: PlanFolder
    solution: Solution
    prediction: Prediction
    outcome: Outcome
    notes: tuple[str, ...] = ()


def partition(
    model: Model | str | Path,
    target: Target | str,
    how: Partition | None,
    cluster: str | Path = "cpu-cores",
    *,
    schedule: Schedule | None = None,
    pipeline: str | Sequence[Pass] | None = None,
    out: str | Path | None = None,
    shapes: Sequence[str] = (),
    checks: Checks | None = None,
) -> Result:
    """Run passes on `model`, share it out over the devices of `cluster`, and build each part for `target`.

    `how`: the degrees of parallelism; None: as the model is annotated. `cluster` is a preset's name or a
    `.toml` file. `out`: by default `NAME.plan`. `checks`: by default those of `compile`, with the data that a
    zoo network brings. With `checks.verify` the parts together are compared with the
    whole model.

    Raises `InputError` (bad input, nothing feasible), `PassError`, `VerifyError`, `MissingError`; nothing is
    written then.
    """
    source = open_source(model)
    checks = checks or Checks(source.calibration, source.evaluation, source.metric or "top1")
    schedule = schedule or Schedule()
    device = make_target(target)
    work = source.model.copy() if isinstance(model, Model) else source.model
    refuse_unknown_domains(work)
    out = Path(out or f"{source.name}.plan")
    check_replaceable(out)
    described = load_cluster(cluster)
    passes = make_passes(pipeline, device, shapes)
    outcome = run_checked(passes, work, checks)
    solution = _assigned(work, described, how, checks)
    prediction = _predict(solution, schedule)
    program, models = split(work, solution.assignment, solution.seconds)
    job = _Job(work, device, described, schedule, solution, prediction, program, models)
    plan = job.write(out, passes, outcome, checks)
    return Result(plan, solution, prediction, outcome, _notes(how, solution))


def _notes(how: Partition | None, solution: Solution) -> tuple[str, ...]:
    if how is None or how.tensor == solution.assignment.tensor or how.devices is not None:
        return ()
    return (
        f"tensor={how.tensor}: by the model no way to share the work is faster than one device; not shared",
    )


def _assigned(model: Model, cluster: Cluster, how: Partition | None, checks: Checks) -> Solution:
    """The partition of `model`, which is annotated with it afterwards."""
    proto = model.to_proto(embed=False)
    whole = inlined(proto)
    if whole is not proto:
        model.replace(whole)
    if how is None:
        if not is_annotated(whole):
            raise InputError(
                f"partition: model '{model.name}' has no device annotations to go by; "
                "say how: --stages, --tensor, --data or --devices"
            )
        solution = evaluate(model, cluster, read_annotations(whole, inferred_graph(model)))
    else:
        solution = how.solution(model, cluster, checks.seed, checks.progress)
    names = [device.name for device in cluster.devices[: solution.assignment.devices]]
    model.replace(annotated(model, solution.assignment, names))
    return solution


def _predict(solution: Solution, schedule: Schedule) -> Prediction:
    """What the schedule takes; `InputError` where a stage has too little memory for it."""
    problem, plan = solution.problem, solution.plan
    count = len(plan.compute)
    weights = [stage_memory(problem, plan.stage, at, at) for at in range(count)]
    live = [stage_memory(problem, plan.stage, at, at + 1) - w for at, w in enumerate(weights)]
    times = [c + r for c, r in zip(plan.compute, plan.receive, strict=True)]
    found = predict(schedule, times, weights, live)
    found = replace(found, throughput=found.throughput * solution.assignment.data)
    for at, (need, device) in enumerate(zip(found.memory, solution.cluster.devices, strict=True)):
        if need > device.memory_bytes:
            raise InputError(
                f"partition: stage {at} needs {need} bytes for {schedule.held(count, at)} micro-batches at "
                f"once (schedule {schedule.kind}), its device has {device.memory_bytes}: "
                f"{need - device.memory_bytes} are missing; give more stages, another schedule or fewer "
                "micro-batches"
            )
    return found


@dataclass(frozen=True)
class _Job:
    """All that is known before anything is built."""

    model: Model
    target: Target
    cluster: Cluster
    schedule: Schedule
    solution: Solution
    prediction: Prediction
    program: Program
    models: dict[str, Model]

    def write(self, out: Path, passes: Sequence[Pass], outcome: Outcome, checks: Checks) -> PlanFolder:
        """Build every part and write the plan, whole or not at all."""
        with staged(out) as folder:
            for name, model in checks.progress.track(self.models.items(), "building parts", len(self.models)):
                (folder / name).mkdir()
                self.target.build(model, folder / name)
            self.model.save(folder / MODEL)
            (folder / PICTURE).write_text(self._picture(), encoding="utf-8")
            plan = PlanFolder.create(folder, self._data(passes, checks))
            if checks.verify:
                check_plan_folder(plan, outcome.rows, outcome.feeds)
        return PlanFolder.load(out)

    def _data(self, passes: Sequence[Pass], checks: Checks) -> dict[str, Any]:
        solution = self.solution
        return {
            "target": to_text([self.target]),  # type: ignore[list-item]
            "pipeline": to_text(passes),
            "seed": checks.seed,
            "data": solution.assignment.data,
            "cluster": cluster_json(self.cluster),
            "schedule": asdict(self.schedule),
            "program": program_json(self.program),
            "plan": plan_json(solution.problem, solution.cluster, solution.plan),
            "cost": asdict(solution.cost),
            # Items that take no time go through without end, which JSON has no number for.
            "predicted": {k: None if v == inf else v for k, v in asdict(self.prediction).items()},
            "versions": package_versions(),
        }

    def _picture(self) -> str:
        plan, assignment = self.solution.plan, self.solution.assignment
        timeline = simulate(
            self.program,
            self.cluster,
            self.schedule.micro_batches,
            self.schedule.in_flight(assignment.stages),
            record=True,
        )
        counts = [f"{assignment.stages} stage{'s' if assignment.stages > 1 else ''}"]
        counts += [f"{assignment.tensor} devices each"] if assignment.tensor > 1 else []
        counts += [f"one of {assignment.data} replicas"] if assignment.data > 1 else []
        title = f"{self.model.name} on {self.cluster.name}: {', '.join(counts)} ({self.schedule.kind})"
        return draw_plan(title, self.program, plan.compute, plan.receive, timeline.spans)
