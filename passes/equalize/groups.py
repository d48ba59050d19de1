"""The channels of a model whose scales are free, in groups: an analysis, which changes nothing."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass

import numpy as np
import onnx_graphsurgeon as gs

from optc.models.model import Model
from optc.passes.equalize.rules import rules_for
from optc.passes.equalize.scaled import Slot
from optc.passes.prune.layers import Decline
from optc.passes.prune.structured.axes import Atoms, Axes
from optc.passes.prune.structured.families import follow

NORMALIZATIONS = ("LayerNormalization", "RMSNormalization")


@dataclass(frozen=True, eq=False)
class Group:
    """Channels that the same constants take the scales of.

    `channels`: their components (see `Axes.components`); `makers`, `readers`: the constants by which they
    are made, and by which layers read them.
    """

    channels: Atoms
    makers: tuple[Slot, ...]
    readers: tuple[Slot, ...]

    @property
    def nodes(self) -> list[gs.Node]:
        """The nodes whose constants take the scales in, each once."""
        return list({id(s.place.node): s.place.node for s in (*self.makers, *self.readers)}.values())


@dataclass(frozen=True, eq=False)
class Found:
    """What `find_groups` found: all constants that can take scales in, and the groups that may move.

    `components`: the channel of each atom of `axes`. Channels that are in no group have scale 1.
    """

    axes: Axes
    components: Atoms
    slots: tuple[Slot, ...]
    groups: tuple[Group, ...]


def find_groups(model: Model, counts: Callable[[Slot], bool], factors: bool, decline: Decline) -> Found:
    """The groups of channels of `model` that can have any scales, read by the weight of a layer.

    Of their makers, one at least `counts`; `factors`: the constant of a Mul may be one. `decline` is told of
    each node with makers that count all of whose channels must keep their scales, and why. Shapes must have
    been inferred.
    """
    slots: list[Slot] = []
    axes = follow(model, rules_for(model, slots, factors))
    components = axes.components()
    frozen = axes.frozen(components)
    groups = tuple(_groups(slots, components, frozen, counts))
    seen = {id(node) for group in groups for node in group.nodes if _makes(group, node)}
    for slot in slots:
        if slot.makes and counts(slot) and id(slot.place.node) not in seen:
            seen.add(id(slot.place.node))
            reasons = (frozen.get(int(c)) for c in components[slot.atoms].reshape(-1))
            reason = next((r for r in reasons if r), "no layer with weights reads them")
            decline(slot.place.node, f"its channels keep their scales: {reason}")
    return Found(axes, components, tuple(slots), groups)


def _makes(group: Group, node: gs.Node) -> bool:
    return any(s.place.node is node for s in group.makers)


def _groups(
    slots: list[Slot], components: Atoms, frozen: dict[int, str], counts: Callable[[Slot], bool]
) -> Iterator[Group]:
    on: dict[int, list[int]] = {}
    for place, slot in enumerate(slots):
        for channel in np.unique(components[slot.atoms]).tolist():
            on.setdefault(channel, []).append(place)
    together: dict[tuple[int, ...], list[int]] = {}
    for channel, places in on.items():
        if channel not in frozen:
            together.setdefault(tuple(places), []).append(channel)
    for key, channels in sorted(together.items()):
        makers = tuple(slots[i] for i in key if slots[i].makes)
        readers = tuple(slots[i] for i in key if not slots[i].makes)
        if any(counts(s) for s in makers) and any(s.weight for s in readers):
            yield Group(np.asarray(channels, np.int64), makers, readers)
