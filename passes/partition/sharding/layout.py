"""How a value lies over the devices of a tensor-parallel group, and how a node reads and writes it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

Range = tuple[int, int]
"""Start and stop along an axis."""


@dataclass(frozen=True)
class Split:
    """Device t holds the elements `ranges[t]` of the value along `axis` (counted from 0).

    The ranges of a value that a node writes follow each other and cover the axis; those that a node reads may
    overlap (the halo of a convolution). They need not be of equal size; none is empty.
    """

    axis: int
    ranges: tuple[Range, ...]


Spec = Split | None
"""None: every device holds the whole value."""


@dataclass(frozen=True)
class Layout:
    """What a node reads and writes, by position of its inputs and outputs; constants have specs, too.

    `reduce`: what the devices compute are terms whose sum is the result; `outputs` says how the sum lies
    afterwards (None: all-reduce, a Split: reduce-scatter).
    """

    inputs: tuple[Spec, ...]
    outputs: tuple[Spec, ...]
    reduce: bool = False


@dataclass(frozen=True)
class Sharding:
    """The layout of every node of a model's main graph over `devices`, by the node's first named output.

    A node that is not in `layouts` runs whole on every device. A value lies as its producer's layout says
    (graph inputs and constants: whole everywhere); a node that reads it in another layout receives it by a
    collective, or cuts its part out of what its device holds (`collectives.holds`, `collectives.received`).
    """

    devices: int
    layouts: Mapping[str, Layout]
