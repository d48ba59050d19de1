"""The accuracy of a model on labelled samples."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
from numpy.typing import NDArray

from optc.models.data import LABEL, Batch, Samples
from optc.models.errors import InputError
from optc.models.model import Model
from optc.models.session import Arrays, Session, check_files
from optc.passes.base import NoProgress, Progress, Score
from optc.passes.float_ends import as_given, decoded, encoded
from optc.passes.text import suggest
from optc.passes.verify.feeds import fixed_batch, sample_feeds
from optc.passes.verify.fingerprint import fingerprint
from optc.passes.verify.metrics import METRICS, PER_SAMPLE, Values, decisions, f1_score, mean_score

BATCH = 64


class Evaluator:
    """Scores models on samples with labels; a model already seen is not run again."""

    def __init__(self, samples: Samples, metric: str = "top1", progress: Progress | None = None) -> None:
        """`metric` is one of `METRICS`; `InputError` for another, or where the samples have no labels."""
        if metric not in METRICS:
            raise InputError(f"unknown metric '{metric}'{suggest(metric, METRICS)}")
        if LABEL not in samples.members:
            raise InputError(
                f"{samples.path}: has no array '{LABEL}'; accuracy needs the labels under that name"
            )
        self.samples = samples
        self.metric = metric
        self._progress = progress or NoProgress()
        self._known: dict[str, Score] = {}

    def __call__(self, model: Model) -> Score:
        """The score of `model` in ONNX Runtime, graph optimizations off; its first output is what counts."""
        key = fingerprint(model)
        if key not in self._known:
            model = as_given(model, self.samples.members)
            session = Session(model)
            self._known[key] = self.score(model, lambda feeds: session.run(feeds))
        return self._known[key]

    def score(self, model: Model, run: Callable[[Batch], Arrays]) -> Score:
        """The score of anything that runs as `model` does: `run` maps inputs by name to outputs by name."""
        output = model.view.outputs[0].name
        batches = sample_feeds(model, self.samples, BATCH, extra=(LABEL,))
        names = [*check_files(as_given(model, self.samples.members), self.samples), LABEL]
        total = self.samples.batch_count(names, fixed_batch(model) or BATCH)
        values: list[Values] = []
        chosen: list[NDArray[Any]] = []  # of each sample, since their shapes may differ
        truth: list[NDArray[Any]] = []
        for feeds, count in self._progress.track(
            batches, f"{self.metric} on {self.samples.path.name}", total
        ):
            labels = feeds.pop(LABEL)
            result = np.asarray(decoded(model, run(encoded(model, feeds)))[output])
            if len(result) != len(labels):
                raise InputError(f"output '{output}' has {len(result)} rows for {len(labels)} samples")
            if self.metric == "f1":
                chosen.extend(decisions(result, labels)[:count])
                truth.extend(labels[:count])
            else:
                values.append(PER_SAMPLE[self.metric](result, labels)[:count])
        if self.metric == "f1":
            return f1_score(chosen, truth)
        return mean_score(self.metric, np.concatenate(values))
