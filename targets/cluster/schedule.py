"""Micro-batch schedules of a pipeline, and what they promise: GPipe and 1F1B.

Forward only, every stage does the micro-batches in order, and both take the same time; they differ in how
many wait in front of a stage. GPipe (Huang et al. 2019, https://arxiv.org/abs/1811.06965) lets all of them in
at once. 1F1B (Narayanan et al. 2019, https://arxiv.org/abs/1806.03377) lets stage s of K hold K - s.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

from optc.models.errors import InputError

Kind = Literal["gpipe", "1f1b"]
KINDS: tuple[Kind, ...] = ("gpipe", "1f1b")


@dataclass(frozen=True)
class Schedule:
    """How `micro_batches` go through a pipeline."""

    kind: Kind = "1f1b"
    micro_batches: int = 8

    def __post_init__(self) -> None:
        if self.micro_batches < 1:
            raise InputError(f"micro-batches: there must be at least 1, not {self.micro_batches}")

    def in_flight(self, stages: int) -> int:
        """How many micro-batches are in the pipeline at once, at most."""
        return self.micro_batches if self.kind == "gpipe" else min(stages, self.micro_batches)

    def window(self, stages: int) -> int:
        """How many requests an engine takes into a replica at once: one more, which waits at its door."""
        return self.in_flight(stages) + 1

    def held(self, stages: int, stage: int) -> int:
        """How many micro-batches a stage holds at once, at most."""
        return self.micro_batches if self.kind == "gpipe" else min(stages - stage, self.micro_batches)


@dataclass(frozen=True)
class Prediction:
    """What a schedule takes on stages of known times.

    `seconds`: from the first stage's begin to the last one's end; `latency`: of one micro-batch alone;
    `throughput`: micro-batches a second of a full pipeline; `bubble`: share of the stages' time in which they
    wait; `memory`: bytes a stage.
    """

    seconds: float
    latency: float
    throughput: float
    bubble: float
    memory: tuple[int, ...]


def predict(
    schedule: Schedule, times: Sequence[float], weights: Sequence[int], live: Sequence[int]
) -> Prediction:
    """From each stage's seconds a micro-batch (receiving included), its weights and live bytes.

    Stages wait for their inputs only: with in-order stages the last micro-batch ends after the sum of all
    times and m - 1 times the longest (GPipe's (K - 1) / (m + K - 1) of bubble, where stages are equal).
    """
    count, m = len(times), schedule.micro_batches
    latency, slowest = sum(times), max(times)
    seconds = latency + (m - 1) * slowest
    busy = m * latency
    bubble = 1 - busy / (count * seconds) if seconds else 0.0
    held = [schedule.held(count, stage) for stage in range(count)]
    memory = tuple(w + h * b for w, h, b in zip(weights, held, live, strict=True))
    return Prediction(seconds, latency, 1 / slowest if slowest else float("inf"), bubble, memory)
