"""Move scales of channels between layers, so that the codes of quantize fit more of them."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any, ClassVar, Literal

import numpy as np
from numpy.typing import NDArray

from optc.models.errors import InputError
from optc.models.model import Model
from optc.passes.base import Context, Contract, Exact
from optc.passes.canonicalize.edit import Edit, edit_graphs
from optc.passes.equalize.balance import Balance
from optc.passes.equalize.copies import blocked, give_copies
from optc.passes.equalize.groups import NORMALIZATIONS, Found, find_groups
from optc.passes.equalize.peaks import find_peaks
from optc.passes.equalize.scaled import Slot
from optc.passes.equalize.write import write_scales
from optc.passes.names import chosen_names, layer_name

Doubles = NDArray[np.float64]


@dataclass(frozen=True)
class Equalize:
    """Divide what makes a channel by a scale, and multiply the weights of all layers that read it.

    `method=weights`: the weights that make a channel and those that read it get the same range (cross-layer
    equalization, Nagel et al. 2019, arXiv 1906.04721): `s = sqrt(r1 / r2)`, over the whole graph to a fixed
    point. `method=smooth`: the values that layers read give `alpha` of their range to the weights
    (SmoothQuant, Xiao et al. 2022, arXiv 2211.10438): `s = max|X| ** alpha / max|W| ** (1 - alpha)`, X from
    `samples` calibration samples. A common factor of a group's scales is left out: it changes no code.

    Between maker and reader stand operators that any positive scale goes through, such as Relu and MaxPool.
    What reads a value otherwise blocks its channels, which is declined with the reason; with `copy`
    (smooth), the layers that read a normalization which a sum reads too (as in BERT) get a copy of it, of
    scaled constants. `layers`, `skip`: name patterns of the nodes whose constants may, and may not, change; a
    group moves where all of its nodes may.

    The report gives the number of groups and channels, the largest scale, and how many bits of its tensor's
    range an average channel (of what is made, and of the weights that read it) leaves unused, before and
    after. Raises `InputError` for bad options, for a pattern that matches nothing, and for missing or bad
    calibration samples.
    """

    name: ClassVar[str] = "equalize"
    contract: ClassVar[Contract] = Exact()

    method: Literal["weights", "smooth"] = "weights"
    alpha: float = 0.5
    layers: tuple[str, ...] = ()
    skip: tuple[str, ...] = ()
    copy: bool = False
    samples: int = 128

    def __post_init__(self) -> None:
        """Check the options."""
        if not 0 <= self.alpha <= 1:
            raise InputError(f"equalize: alpha {self.alpha} is not from 0 to 1")
        if self.method == "weights" and self.alpha != 0.5:
            raise InputError("equalize: alpha is of method=smooth only")
        if self.copy and self.method != "smooth":
            raise InputError("equalize: copy is of method=smooth only")
        if self.samples < 1:
            raise InputError(f"equalize: samples {self.samples} is not at least 1")

    def run(self, model: Model, context: Context) -> bool:
        """Equalize the main graph of `model`; True if a scale moved, or a normalization was copied."""
        copied = self._copy(model, context)
        found = self._chosen(self._find(model, context))
        peaks = None
        if self.method == "smooth" and found.groups:
            peaks = find_peaks(model, found.groups, context, self.samples)
        balance = Balance(found, peaks)
        before = _unused(balance)
        moved = balance.settle(self.alpha)
        context.facts.update(_facts(found, balance, before))
        if moved:
            _edit(model, context, lambda edit: write_scales(edit, found, balance.logs))
        return moved or copied

    def _copy(self, model: Model, context: Context) -> bool:
        """Give layers normalizations of their own, where `copy` says so; whether there are any."""
        if not self.copy:
            return False
        found = self._find(model, Context())
        pairs = blocked(model, found, self._allowed(found))
        if pairs:
            _edit(model, context, lambda edit: give_copies(edit, pairs))
        return bool(pairs)

    def _find(self, model: Model, context: Context) -> Found:
        return find_groups(model, self._counts, self.method == "smooth", context.decline)

    def _counts(self, slot: Slot) -> bool:
        """Which constants make channels worth scaling."""
        return slot.weight or (self.method == "smooth" and slot.place.node.op in (*NORMALIZATIONS, "Mul"))

    def _chosen(self, found: Found) -> Found:
        """`found` with the groups only that the patterns of names allow."""
        allowed = self._allowed(found)
        groups = (g for g in found.groups if all(layer_name(n) in allowed for n in g.nodes))
        return replace(found, groups=tuple(groups))

    def _allowed(self, found: Found) -> set[str]:
        """The names of nodes whose constants may change."""
        names = list(dict.fromkeys(layer_name(s.place.node) for s in found.slots))
        return chosen_names("equalize", names, self.layers, self.skip)


def _edit(model: Model, context: Context, change: Callable[[Edit], None]) -> None:
    """Edit the main graph."""

    def rewrite(edit: Edit) -> bool:
        main = edit.graph is model.view
        if main:
            change(edit)
        return main

    edit_graphs(model, context, rewrite)


def _unused(balance: Balance) -> float:
    """Bits of the range of all channels together that one does not use, on average over channels."""
    bits = []
    for group in balance.groups:
        for ranges in balance.ranges(group):
            alive = ranges[ranges > 0]
            bits.append(np.log2(alive.max() / alive).mean() if alive.size else 0.0)
    return float(np.mean(bits)) if bits else 0.0


def _facts(found: Found, balance: Balance, before: float) -> dict[str, Any]:
    return {
        "groups": len(found.groups),
        "channels": sum(g.channels.size for g in found.groups),
        "largest_scale": float(np.exp(np.abs(balance.logs).max(initial=0))),
        "unused_bits_before": before,
        "unused_bits_after": _unused(balance),
    }
