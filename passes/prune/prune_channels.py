"""Structured pruning: channels that matter least go, and the model shrinks."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any, ClassVar, Literal

import numpy as np
from numpy.typing import NDArray

from optc.models.errors import InputError
from optc.models.model import Model
from optc.passes.base import Context, Contract, Declined, Lossy
from optc.passes.names import layer_name, match_patterns
from optc.passes.prune.criteria import CRITERIA
from optc.passes.prune.repair import Repair, repair
from optc.passes.prune.scores import Scorer
from optc.passes.prune.structured.allocate import cheapest, uniform
from optc.passes.prune.structured.families import Channels, Family, find_channels
from optc.passes.prune.structured.importance import importance
from optc.passes.prune.structured.sensitivity import measured_damage
from optc.passes.prune.structured.shrink import shrink
from optc.passes.prune.structured.work import Work

Array = NDArray[Any]

MACS = "optc.macs"
"""The metadata entry with the multiply-accumulates that the model had before its channels were pruned."""

_OLDEST_OPSET = 13


@dataclass(frozen=True)
class PruneChannels:
    """Take whole channels out of a model until it needs `macs` of its multiply-accumulates, and shrink it.

    Output channels of Conv, ConvTranspose, Gemm and MatMul go, hidden units and attention heads with them,
    together with all that hangs on them through Add, Concat, Split, Reshape, depthwise convolutions and so
    on. What cannot be followed stays, with the reason. Widths stay multiples of `align` (the target's, 16
    unless it says otherwise).

    `criterion`: how much a weight matters. `allocation`: the same share everywhere (`uniform`), or where
    channels matter least for the MACs they save: by the criterion (`global`), or by how far outputs move on
    calibration samples when they go (`sensitivity`). `layers`, `skip`: name patterns of layers whose channels
    may go, and must not. `repair`: re-estimate the `bias`, or all remaining `weights`, of each layer from
    calibration samples, of which `samples` are used.

    A model that was pruned to `macs` already is left as it is: the share is that of the first model, which
    the metadata remember. Needs opset 13 and inferred shapes. Raises `InputError` on bad options, a pattern
    that matches nothing, and calibration data that is missing or does not fit.
    """

    name: ClassVar[str] = "prune-channels"
    contract: ClassVar[Contract] = Lossy("the channels that matter least")

    macs: float = 0.5
    criterion: Literal["magnitude", "magnitude-l2", "activation", "random"] = "magnitude-l2"
    allocation: Literal["uniform", "global", "sensitivity"] = "uniform"
    layers: tuple[str, ...] = ()
    skip: tuple[str, ...] = ()
    align: int | None = None
    repair: Repair = "none"
    samples: int = 128

    def __post_init__(self) -> None:
        """Check the options."""
        if not 0 < self.macs <= 1:
            raise InputError(f"prune-channels: macs {self.macs} is not above 0 and at most 1")
        if self.criterion not in CRITERIA:
            raise InputError(
                f"prune-channels: no criterion '{self.criterion}'; there is {', '.join(CRITERIA)}"
            )
        if self.align is not None and self.align < 1:
            raise InputError(f"prune-channels: align {self.align} is not at least 1")
        if self.samples < 1:
            raise InputError(f"prune-channels: samples {self.samples} is not at least 1")

    def run(self, model: Model, context: Context) -> bool:
        """Prune channels of `model`; True if any went."""
        if model.opset < _OLDEST_OPSET:
            raise InputError(
                f"prune-channels needs opset {_OLDEST_OPSET} or later, the model has {model.opset}; "
                "run canonicalize first"
            )
        channels = find_channels(model, self.align or context.align, context.decline)
        families = self._chosen(channels)
        channels = replace(channels, families=families)
        work = Work(model, channels)
        full = work.macs([0] * len(families))
        first = float(model.metadata().get(MACS, full))
        if not families or full <= self.macs * first:
            return False
        orders, shares = self._ranked(model, channels, context)
        lost = self._allocate(model, channels, work, self.macs * first, orders, shares, context)
        if not any(lost):
            return False
        before = model.copy() if self.repair != "none" else None
        gone = [f.components[order[:n]] for f, order, n in zip(families, orders, lost, strict=True)]
        kept = shrink(model, channels.axes, np.isin(channels.components, np.concatenate(gone)))
        model.set_metadata(MACS, repr(first))
        context.facts.update(_facts(families, lost, work, first))
        if work.macs(lost) > self.macs * first:
            share = work.macs(lost) / first
            context.declined.append(Declined(model.name, f"no more can go: {share:.1%} of the MACs stay"))
        if before is not None:
            repair(before, model, self.repair, kept, context, self.samples)
        return True

    def _chosen(self, channels: Channels) -> tuple[Family, ...]:
        """The families that `layers` and `skip` leave: none of whose layers must be skipped, and one is
        chosen.
        """
        names = list(channels.layers)
        chosen, skipped = (set(match_patterns(self.name, names, p)) for p in (self.layers, self.skip))
        found = []
        for family in channels.families:
            made = {layer_name(slot.place.node) for slot in family.makers}
            if not made & skipped and (not self.layers or made & chosen):
                found.append(family)
        return tuple(found)

    def _ranked(self, model: Model, channels: Channels, context: Context) -> tuple[list[Array], list[Array]]:
        """For each family its channels, the least important first, and their importance in that order."""
        slots = {
            (id(s.place.node), s.place.index): s for f in channels.families for s in (*f.makers, *f.readers)
        }
        weights = [(slot.place.node, slot.place.index) for slot in slots.values()]
        scorer = Scorer(self.criterion, model, weights, context)
        orders, shares = [], []
        for family in channels.families:
            found = importance(family, channels, lambda s: scorer.scores(s.place.node, s.place.index))
            order = np.argsort(found, kind="stable")
            orders.append(order)
            shares.append(found[order])
        return orders, shares

    def _allocate(
        self,
        model: Model,
        channels: Channels,
        work: Work,
        target: float,
        orders: list[Array],
        shares: list[Array],
        context: Context,
    ) -> list[int]:
        """How many channels each family loses."""
        families = channels.families
        if self.allocation == "uniform":
            return uniform(families, work, target)
        if self.allocation == "global":
            return cheapest(families, work, target, [np.cumsum([0.0, *s]) for s in shares])
        return cheapest(families, work, target, measured_damage(model, channels, orders, context))


def _facts(families: tuple[Family, ...], lost: list[int], work: Work, first: float) -> dict[str, Any]:
    """`macs`: the share of the first model's that is left; `channels`: before and after, by layer."""
    sizes = [f.components.size for f in families]
    rows = {f.name: [size, size - n] for f, size, n in zip(families, sizes, lost, strict=True)}
    return {"macs": work.macs(lost) / first, "channels": rows}
