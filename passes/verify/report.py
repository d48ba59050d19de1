"""Steps, rows and scores as JSON types, without times: a manifest is the same bytes for the same inputs."""

from __future__ import annotations

import dataclasses
import math
from typing import Any

from optc.passes.base import Score
from optc.passes.pipeline import Step
from optc.passes.verify.accuracy import Scored
from optc.passes.verify.metrics import Change
from optc.passes.verify.watcher import Row


def step_json(step: Step) -> dict[str, Any]:
    """What a pass did: its text, whether it changed anything, what it declined, its facts."""
    return {
        "pass": step.text,
        "changed": step.changed,
        "declined": [dataclasses.asdict(d) for d in step.declined],
        "facts": json_value(step.facts),
        "rolled_back": step.rolled_back,
    }


def row_json(row: Row) -> dict[str, Any]:
    """One line of the verification table, each output by itself."""
    return {
        "pass": row.name,
        "contract": row.contract,
        "changed": row.changed,
        "counts": dataclasses.asdict(row.counts),
        "max_error": json_value(row.max_error),
        "snr_db": json_value(row.snr_db),
        "outputs": [
            {"name": d.output, "max_error": json_value(d.max_error), "snr_db": json_value(d.snr_db)}
            for d in row.outputs
        ],
        "note": row.note,
        "broken": row.broken,
        "score": score_json(row.score),
    }


def scored_json(row: Scored) -> dict[str, Any]:
    """One line of the table of accuracy."""
    return {
        "pass": row.name,
        "score": score_json(row.score),
        "since_last": change_json(row.since_last),
        "since_input": change_json(row.since_input),
    }


def score_json(score: Score | None) -> dict[str, Any] | None:
    """A score with its interval, or None; without what paired comparisons need."""
    if score is None:
        return None
    names = ("metric", "value", "low", "high", "samples")
    return {name: json_value(getattr(score, name)) for name in names}


def change_json(found: Change | None) -> dict[str, Any] | None:
    """The paired difference of two scores, or None."""
    return None if found is None else json_value(dataclasses.asdict(found))


def json_value(value: Any) -> Any:
    """`value` in JSON types; infinities and NaN, which JSON lacks, as the texts "inf", "-inf", "nan"."""
    if isinstance(value, float) and not math.isfinite(value):
        return str(value)
    if isinstance(value, dict):
        return {str(k): json_value(v) for k, v in value.items()}
    if isinstance(value, list | tuple):
        return [json_value(v) for v in value]
    return value
