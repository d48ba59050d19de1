"""The one currency in which guard, search, partition and reports compare models."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Cost:
    """What one run of a model costs; None where it is not known.

    `seconds`: latency of one run; `cycles`: of the device's clock; `bytes`: moved to and from memory;
    `energy`: joules; `source`: what the figures are from, such as "measured: onnxruntime" or "estimated".
    """

    source: str
    seconds: float | None = None
    cycles: int | None = None
    bytes: int | None = None
    energy: float | None = None

    @property
    def measured(self) -> bool:
        """Whether the figures were measured, not estimated."""
        return self.source.startswith("measured")

    def ratio(self, other: Cost) -> float | None:
        """This cost as a share of `other`: by time, else by cycles; None where they cannot be compared."""
        if self.seconds is not None and other.seconds:
            return self.seconds / other.seconds
        if self.cycles is not None and other.cycles:
            return self.cycles / other.cycles
        return None
