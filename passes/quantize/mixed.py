"""Mixed precision: the layers that lose most stay wide, as few as a target asks for."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace

from optc.models.errors import InputError
from optc.models.model import Model
from optc.models.session import Arrays, Session
from optc.passes.base import Context
from optc.passes.calibrate import calibration_feeds
from optc.passes.quantize.leave import Choice
from optc.passes.quantize.sensitivity import sensitivities
from optc.passes.quantize.settings import Setting
from optc.passes.verify.snr import worst_snr

LEFT_FLOAT = "optc.left-float"
"""The metadata entry with the names of the layers, a JSON list, that stay float to meet a target."""

SAMPLES = 64
"""At most so many calibration samples tell the signal-to-noise ratio."""

Attempt = Callable[[Model, Context, Choice], bool]


@dataclass(frozen=True)
class Target:
    """What the quantized model has to keep, and what its worst layers stay in (`float` or `int16`).

    `min_snr`: dB of the worst float output on calibration samples; `max_drop`: of the accuracy; None: no
    matter.
    """

    min_snr: float | None
    max_drop: float | None
    fallback: str


@dataclass
class _Trial:
    """A model with some layers left wide, and what it keeps."""

    model: Model
    context: Context
    changed: bool
    wide: Sequence[str]
    snr: float | None = None
    drop: float | None = None

    def reaches(self, target: Target) -> bool:
        """Whether it keeps what `target` asks for."""
        kept = target.min_snr is None or (self.snr is not None and self.snr >= target.min_snr)
        return kept and (target.max_drop is None or (self.drop is not None and self.drop <= target.max_drop))


def left_before(model: Model) -> dict[str, str]:
    """The layers that an earlier run left float to meet its target, with the reason."""
    try:
        names = [str(name) for name in json.loads(model.metadata().get(LEFT_FLOAT, "[]"))]
    except (ValueError, TypeError) as error:
        raise InputError(f"quantize: the metadata entry '{LEFT_FLOAT}' is damaged; remove it") from error
    return dict.fromkeys(names, "it was left float to meet a target")


def meet_target(
    attempt: Attempt,
    target: Target,
    setting: Setting,
    model: Model,
    context: Context,
    kept: Mapping[str, str],
) -> bool:
    """Quantize `model` by `attempt` so that it meets `target`; whether anything changed.

    Layers are ranked by what each loses by itself under `setting`; how many of the worst have to stay wide is
    found by bisection, each trial being quantized and measured whole. The trial that is taken is the model:
    nothing is done anew. Raises `InputError` where not even all layers wide reach the target.
    """
    search = _Search(attempt, target, model, context, kept)
    ranked = _worst_first(model, context, setting, kept)
    best = search.trial([])
    if not best.reaches(target):
        fewest, most = 0, len(ranked)
        best = search.trial(ranked)
        if not best.reaches(target):
            raise InputError(
                f"quantize: with all layers in {target.fallback}, {_text(best)}; lower the target"
            )
        while most - fewest > 1:
            middle = (fewest + most) // 2
            found = search.trial(ranked[:middle])
            if found.reaches(target):
                most, best = middle, found
            else:
                fewest = middle
    _take(best, model, context, target)
    return best.changed


def _worst_first(model: Model, context: Context, setting: Setting, kept: Mapping[str, str]) -> list[str]:
    found = [s for s in sensitivities(model, context, {"own": setting}) if s.layer not in kept]
    return [s.layer for s in sorted(found, key=lambda s: s.output_db)]


class _Search:
    """Makes and measures trials."""

    def __init__(
        self, attempt: Attempt, target: Target, model: Model, context: Context, kept: Mapping[str, str]
    ) -> None:
        self._attempt, self._target = attempt, target
        self._model, self._context, self._kept = model, context, kept
        if target.max_drop is not None and context.evaluate is None:
            raise InputError("quantize: max_drop needs labelled samples: give them with --eval SAMPLES.npz")
        evaluate = context.evaluate if target.max_drop is not None else None
        self._score = evaluate(model) if evaluate else None
        self._feeds: list[Arrays] = []
        self._outputs: list[Arrays] = []

    def trial(self, wide: Sequence[str]) -> _Trial:
        """The model with the layers `wide` left in the fallback."""
        model = self._model.copy()
        context = replace(self._context, declined=[], facts={})
        found = _Trial(model, context, self._attempt(model, context, self._choice(wide)), wide)
        if self._target.min_snr is not None:
            found.snr = self._snr(model)
        if self._score is not None and context.evaluate is not None:
            change = context.evaluate(model).value - self._score.value
            found.drop = change if self._score.metric == "mse" else -change
        return found

    def _choice(self, wide: Sequence[str]) -> Choice:
        if self._target.fallback == "int16":
            return Choice(self._kept, frozenset(wide))
        return Choice({**self._kept, **dict.fromkeys(wide, "it loses more than the target allows")})

    def _snr(self, model: Model) -> float:
        """Signal to noise of the worst float output, in dB."""
        if not self._feeds:
            feeds = calibration_feeds(self._model, self._context, SAMPLES, what="float results")
            self._feeds = [feed for _, feed in feeds]
            self._outputs = self._run(self._model)
        return worst_snr(self._outputs, self._run(model))

    def _run(self, model: Model) -> list[Arrays]:
        session = Session(model, optimize=True)
        return [session.run(feed) for feed in self._feeds]


def _take(trial: _Trial, model: Model, context: Context, target: Target) -> None:
    """Let `model` be that of the trial, with its report."""
    if trial.changed:
        model.replace(trial.model.to_proto(embed=False))
        if trial.wide and target.fallback == "float":
            model.set_metadata(LEFT_FLOAT, json.dumps(sorted(trial.wide)))
    context.declined.extend(trial.context.declined)
    context.facts.update(trial.context.facts, wide=list(trial.wide), fallback=target.fallback)
    context.facts.update({k: v for k, v in (("snr_db", trial.snr), ("drop", trial.drop)) if v is not None})


def _text(trial: _Trial) -> str:
    parts = []
    if trial.snr is not None:
        parts.append(f"the outputs keep {trial.snr:.1f} dB")
    if trial.drop is not None:
        parts.append(f"the accuracy drops by {trial.drop:.4g}")
    return " and ".join(parts)
