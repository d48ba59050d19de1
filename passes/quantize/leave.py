"""Which units stay float though they could be integers: by name, or for want of data."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from optc.models.model import Model
from optc.passes.names import layer_name, match_patterns
from optc.passes.quantize.groups import Seen, sources
from optc.passes.quantize.region import Region, find_region


@dataclass(frozen=True)
class Choice:
    """Which units do not become 8-bit integers, by the names of their first nodes.

    `kept`: those that stay float, each with the reason; `wide`: layers that take codes and weights of int16.
    """

    kept: Mapping[str, str] = field(default_factory=dict)
    wide: frozenset[str] = frozenset()


def left_by_name(model: Model, layers: tuple[str, ...], skip: tuple[str, ...]) -> dict[str, str]:
    """The layers that match none of `layers` (where there are some), or one of `skip`, with the reason.

    Raises `InputError` for a pattern that matches no layer.
    """
    if not layers and not skip:
        return {}
    names = [layer_name(u.head) for u in find_region(model, False).units if u.seed]
    chosen, skipped = (match_patterns("quantize", names, patterns) for patterns in (layers, skip))
    found = {n: "its name matches none of 'layers'" for n in names if layers and n not in chosen}
    return found | dict.fromkeys(skipped, "its name matches 'skip'")


def unseen_units(region: Region, known: Mapping[str, Seen]) -> dict[str, str]:
    """The units that make or read a value of which calibration showed nothing but zeros, with the reason.

    A code for such a value would destroy whatever else comes along later.
    """
    blind = {id(t): t.name for t in sources(region) if known[t.name].range == (0.0, 0.0)}
    found: dict[str, str] = {}
    for unit in region.units:
        for tensor in (*unit.operands, unit.output):
            if id(tensor) in blind:
                name = blind[id(tensor)]
                reason = f"calibration showed nothing but zeros of '{name}'"
                found.setdefault(layer_name(unit.head), reason)
    return found
