"""The order of the standard pipeline: what runs without `-p`, and what the word `standard` stands for."""

from __future__ import annotations

from collections.abc import Sequence

from optc.passes.base import Pass
from optc.passes.registry import parse_passes

PHASES = (
    ("canonicalize", "canonicalize"),  # exact: one form, whatever exporter wrote the file
    ("compress", ""),  # lossy passes never run unasked: -p "standard,prune{sparsity=0.5},quantize"
)
"""Name and pipeline text of each phase, in order; what a target adds comes last."""


def standard_passes(own: Sequence[Pass] = ()) -> tuple[Pass, ...]:
    """The standard pipeline; `own` are a target's passes after the common ones (see `Target.passes`)."""
    return tuple(p for _, text in PHASES for p in parse_passes(text)) + tuple(own)
