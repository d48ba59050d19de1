"""Steps, rows and scores as JSON types, without times: a manifest is the same bytes for the same inputs."""

from __future__ import annotations

import dataclasses
import math
from typing import Any

from optc.passes.base import Score
from optc.passes.pipeline import Step
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


def score_json(score: Score | None) -> dict[str, Any] | None:
    """A score with its interval, or None."""
    return None if score is None else json_value(dataclasses.asdict(score))


def json_value(value: Any) -> Any:
    """`value` in JSON types; infinities and NaN, which JSON lacks, as the texts "inf", "-inf", "nan"."""
    if isinstance(value, float) and not math.isfinite(value):
        return str(value)
    if isinstance(value, dict):
        return {str(k): json_value(v) for k, v in value.items()}
    if isinstance(value, list | tuple):
        return [json_value(v) for v in value]
    return value
