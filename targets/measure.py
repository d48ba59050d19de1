"""What one run of a model takes: a roofline estimate for any target's hardware."""

from __future__ import annotations

from dataclasses import dataclass

from optc.models.model import Model
from optc.passes.analysis.counts import count
from optc.passes.cost import Cost


@dataclass(frozen=True)
class Roofline:
    """A device by two figures (Williams et al. 2009): peak `macs` a second, `bytes` a second from memory."""

    device: str
    macs: float
    bytes: float

    def estimate(self, model: Model) -> Cost:
        """The time that the slower of computing and reading the weights takes; activations are not counted.

        Free dimensions count as 1.
        """
        counts = count(model)
        seconds = max(counts.macs / self.macs, counts.bytes / self.bytes)
        return Cost(f"estimated: roofline of {self.device}", seconds=seconds, bytes=counts.bytes)


CPU_CORE = Roofline("one AVX-512 core at 2.5 GHz", macs=80e9, bytes=10e9)
"""Two 16-lane float32 multiply-adds a cycle; memory bandwidth as one core gets it."""

A100 = Roofline("an A100", macs=9.75e12, bytes=1555e9)
"""19.5 TFLOP/s in float32 and 1555 GB/s (NVIDIA A100 data sheet)."""

VTA_PYNQ = Roofline("VTA at 100 MHz", macs=25.6e9, bytes=0.8e9)
"""256 multiply-adds and a word of 8 bytes a cycle."""
