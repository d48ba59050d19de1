"""What a pipeline did, as JSON: the manifest's figures, and the times that the manifest must not hold."""

from __future__ import annotations

import dataclasses
from typing import Any

from optc.passes.verify.checked import Outcome
from optc.passes.verify.report import change_json, row_json, score_json, scored_json, step_json


def outcome_json(outcome: Outcome) -> dict[str, Any]:
    """Counts and accuracy before and after, steps, and the tables of accuracy and of verification.

    The latter are empty without labelled samples and without --verify.
    """
    difference = outcome.scores[-1].since_input if outcome.scores else None
    return {
        "before": {"counts": dataclasses.asdict(outcome.before), "score": score_json(outcome.score_before)},
        "after": {"counts": dataclasses.asdict(outcome.after), "score": score_json(outcome.score_after)},
        "difference": change_json(difference),
        "steps": [step_json(s) | {"seconds": s.seconds} for s in outcome.steps],
        "scores": [scored_json(s) for s in outcome.scores],
        "verification": [row_json(r) | {"seconds": r.seconds} for r in outcome.rows],
    }
