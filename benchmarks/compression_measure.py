"""What the parts of `benchmarks/compression.py` share: networks, folders of data, latencies."""

from __future__ import annotations

import math
import statistics
import sys
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from optc.models.model import Model
from optc.models.session import Session
from optc.models.source import Source, open_source
from optc.passes.base import Context
from optc.passes.pipeline import Pipeline
from optc.passes.registry import parse_passes
from optc.passes.verify.inputs import generate_runnable

Array = NDArray[Any]
Row = dict[str, Any]
Rows = Iterator[Row]

ROUNDS = 31
"""Rounds of every model in turn; each takes at least 20 ms."""


@dataclass(frozen=True)
class Folders:
    """Where the data lies that the zoo does not bring; None: not given."""

    photographs: Path | None
    fashion: Path | None
    mails: Path | None
    tokenizer: Path | None


def say(text: str) -> None:
    """Progress, on stderr."""
    print(f"{time.strftime('%H:%M:%S')} {text}", file=sys.stderr, flush=True)


def canonical(name: str) -> tuple[Source, Model]:
    """A network of the zoo, with its data, in canonical form and without a last Softmax."""
    source = open_source(f"zoo:{name}")
    model = source.model
    Pipeline(parse_passes("canonicalize")).run(model, Context())
    last = model.view.outputs[0].inputs[0]
    if last.op == "Softmax":
        logits = last.inputs[0]
        logits.dtype = np.dtype(np.float32)
        model.graph.outputs = [logits]
        model.graph.cleanup()
    return source, model


def bind(model: Model, shapes: dict[str, Sequence[int]]) -> None:
    """Give the inputs fixed shapes, in place."""
    texts = ",".join(f'"{name}={",".join(map(str, shape))}"' for name, shape in shapes.items())
    Pipeline(parse_passes(f"bind-shapes{{shapes=[{texts}]}},canonicalize")).run(model, Context())


def latencies(models: Sequence[Model], feeds: Sequence[dict[str, Array]] | None = None) -> list[float]:
    """Median milliseconds of each, one thread, rounds interleaved; on `feeds`, else on random inputs."""
    sessions = [Session(m, optimize=True, threads=1) for m in models]
    if feeds is None:
        feeds = [generate_runnable(m, s, 0) for m, s in zip(models, sessions, strict=True)]
    times: list[list[float]] = [[] for _ in models]
    for _ in range(ROUNDS):
        for session, feed, found in zip(sessions, feeds, times, strict=True):
            session.run(feed)
            runs, start, now = 0, time.perf_counter(), 0.0
            while runs < 3 or now - start < 0.02:
                session.run(feed)
                runs, now = runs + 1, time.perf_counter()
            found.append((now - start) / runs * 1e3)
    return [statistics.median(t) for t in times]


def snr(wanted: Array, found: Array) -> float:
    """Signal to noise in dB over all values."""
    noise = float(np.sum(np.square(found - wanted, dtype=np.float64)))
    return round(10 * math.log10(float(np.sum(np.square(wanted, dtype=np.float64))) / noise), 2)
