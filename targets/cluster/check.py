"""Whether the parts of a plan together compute what the whole model does."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace

from optc.models.errors import InputError, MissingError
from optc.models.session import Session
from optc.passes.analysis.counts import count
from optc.passes.verify.feeds import Feeds
from optc.passes.verify.watcher import RANDOM, Row, contract_text
from optc.targets.agreement import agreement, judge
from optc.targets.cluster.local import LocalEngine
from optc.targets.cluster.plan_folder import PlanFolder


def local_engine(plan: PlanFolder) -> LocalEngine:
    """The plan's artifacts, to run in this process, on one thread each; `MissingError` where it cannot."""
    with _one_thread():
        return LocalEngine(plan.program, {part.name: plan.artifact(part).runner() for part in plan.parts()})


@contextmanager
def _one_thread() -> Iterator[None]:
    """What is loaded gets one thread, as on Ray: the threads of many parts would get in each other's way."""
    before = os.environ.get("OMP_NUM_THREADS")
    os.environ["OMP_NUM_THREADS"] = "1"
    try:
        yield
    finally:
        if before is None:
            del os.environ["OMP_NUM_THREADS"]
        else:
            os.environ["OMP_NUM_THREADS"] = before


def check_plan_folder(plan: PlanFolder, rows: list[Row], feeds: Feeds) -> Row:
    """Compare the plan with its whole model in ONNX Runtime, and add a row to `rows`.

    Where it cannot run on this machine, draws at random, or no inputs can be made, the row says so.
    `VerifyError` where they do not agree, `InputError` where a part refuses what the whole model took.
    """
    model = plan.model
    contract = agreement(model)
    row = Row(f"plan ({plan.data['target']})", contract_text(contract), False, count(model), 0.0)
    random = next((n.op for n in model.view.nodes if n.op in RANDOM), None)
    if random is not None:
        rows.append(replace(row, note=f"not compared: {random} gives other values on every run"))
        return rows[-1]
    try:
        session = Session(model)
        if not feeds.fits(model):
            feeds.fit(model, session)
        theirs = feeds.run(session)
    except InputError as error:
        if feeds.given:
            raise
        rows.append(replace(row, note=f"not compared: {error}"))
        return rows[-1]
    try:
        ours = list(local_engine(plan).run(feeds.arrays))
    except MissingError as error:
        rows.append(replace(row, note=f"not run here: {error}"))
        return rows[-1]
    owed = dict.fromkeys((o.name for o in model.view.outputs), contract)
    return judge(row, theirs, ours, owed, rows, "ONNX Runtime on the whole model")
