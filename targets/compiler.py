"""From a model to a verified artifact: what `optc compile` and `optc.compile` do."""

from __future__ import annotations

import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import onnx_graphsurgeon as gs

from optc.models.data import Samples, load_arrays
from optc.models.errors import InputError
from optc.models.model import Model
from optc.models.session import Arrays
from optc.models.source import open_source
from optc.passes.base import NoProgress, Pass, Progress, describe
from optc.passes.bind_shapes import BindShapes
from optc.passes.pipeline import Watcher
from optc.passes.registry import parse_passes
from optc.passes.standard import standard_passes
from optc.passes.text import from_text, to_text
from optc.passes.verify.checked import Checks, Outcome, run_checked
from optc.passes.verify.report import row_json, scored_json, step_json
from optc.targets.agreement import check_artifact
from optc.targets.artifact import Artifact, check_replaceable, load, staged
from optc.targets.base import Finishing, Target
from optc.targets.registry import target_class

_DOMAINS = {"", "ai.onnx", "ai.onnx.ml", "com.microsoft"}
"""Domains whose operators some part of a target, or ONNX Runtime on the host, runs."""


@dataclass(frozen=True)
class Result:
    """What `compile` leaves: the artifact on disk and what happened on the way.

    `outcome` holds the steps, the counts before and after, and the tables of accuracy and verification.
    """

    artifact: Artifact
    outcome: Outcome
    passes: tuple[Pass, ...]


def compile(
    model: Model | str | Path,
    target: Target | str,
    pipeline: str | Sequence[Pass] | None = None,
    *,
    out: str | Path | None = None,
    calibration: str | Path | None = None,
    evaluation: str | Path | None = None,
    metric: str | None = None,
    inputs: Arrays | str | Path | None = None,
    shapes: Sequence[str] = (),
    verify: bool = False,
    guard: bool = False,
    seed: int = 0,
    watchers: Sequence[Watcher] = (),
    progress: Progress | None = None,
) -> Result:
    """Run passes on `model` and build it for `target` into the folder `out`.

    `model`: a `Model` (left as it is), an `.onnx` file or `zoo:NAME`; `target`: a target or its text, such
    as `cuda{arch=[sm_80]}`; `pipeline`: passes or their text, None for the standard pipeline; `out`: by
    default `NAME.TARGET`; `calibration`, `evaluation`, `inputs`: `.npz` files by input name, batch first
    (a zoo network brings its own), the first two also folders of such files; `shapes`: such as
    `image=1,3,224,224`; `verify` checks every pass and the artifact; `guard` takes back passes that do not
    pay.

    Raises `InputError` (bad input), `PassError` (a pass failed), `VerifyError` (a broken contract) and
    `MissingError` (something is missing on this machine); nothing is written then.
    """
    source = open_source(model)
    device = make_target(target)
    work = source.model.copy() if isinstance(model, Model) else source.model
    refuse_unknown_domains(work)
    passes = make_passes(pipeline, device, shapes)
    out = Path(out or f"{source.name}.{device.name}")
    check_replaceable(out)
    checks = Checks(
        calibration=Samples(calibration) if calibration else source.calibration,
        evaluation=Samples(evaluation) if evaluation else source.evaluation,
        metric=metric or source.metric or "top1",
        inputs=load_arrays(inputs) if isinstance(inputs, str | Path) else inputs,
        verify=verify,
        guard=guard,
        cost=getattr(device, "measure", device.cost),
        align=getattr(device, "align", 16),
        seed=seed,
        watchers=watchers,
        progress=progress or NoProgress(),
    )
    outcome = run_checked(passes, work, checks)
    return Result(_build(work, device, out, passes, checks, outcome), outcome, passes)


def make_target(target: Target | str) -> Target:
    """A target from its text, such as `cpu` or `cuda{arch=[sm_80,sm_90]}` (`InputError`)."""
    if not isinstance(target, str):
        return target
    found: tuple[Any, ...] = from_text(target, target_class)  # type: ignore[arg-type]
    if len(found) != 1:
        raise InputError(
            f"target '{target}' is not one target; give one, such as cpu (see: optc list targets)"
        )
    device: Target = found[0]
    return device


def make_passes(
    pipeline: str | Sequence[Pass] | None, target: Target | None = None, shapes: Sequence[str] = ()
) -> tuple[Pass, ...]:
    """The passes to run, `shapes` bound first; None and the word `standard` are the standard pipeline."""
    if pipeline is None or isinstance(pipeline, str):
        standard = standard_passes(target.passes() if target else ())
        passes = standard if pipeline is None else parse_passes(pipeline, standard)
    else:
        passes = tuple(pipeline)
    return (BindShapes(tuple(shapes)), *passes) if shapes else passes


def refuse_unknown_domains(model: Model) -> None:
    """`InputError` for the first node of a domain that nothing here runs (`optc opt` carries it through)."""
    known = _DOMAINS | {f.domain for f in model.header.functions}
    for node in all_nodes(model.view):
        if (node.domain or "") not in known:
            raise InputError(
                f"node {describe(node)} is of the unknown domain '{node.domain}'; no target can run it "
                "(optc opt carries it through)",
                describe(node),
            )


def all_nodes(graph: gs.Graph) -> Iterator[gs.Node]:
    """The nodes of a graph and of its subgraphs."""
    for node in graph.nodes:
        yield node
        for value in node.attrs.values():
            if isinstance(value, gs.Graph):
                yield from all_nodes(value)


def _build(
    model: Model, target: Target, out: Path, passes: Sequence[Pass], checks: Checks, outcome: Outcome
) -> Artifact:
    with staged(out) as folder:
        start = time.perf_counter()
        (artifact,) = (
            target.build(model, folder)
            for _ in checks.progress.track([target], f"building for {target.name}", 1)
        )
        seconds = time.perf_counter() - start
        if checks.verify:
            check_artifact(artifact, outcome.rows, outcome.feeds, seconds)
        if isinstance(target, Finishing):
            target.finish(artifact, checks.progress)
        artifact.annotate(
            pipeline=to_text(passes),
            seed=checks.seed,
            steps=[step_json(s) for s in outcome.steps],
            scores=[scored_json(s) for s in outcome.scores],
            verification=[row_json(r) for r in outcome.rows],
        )
    return load(out)
