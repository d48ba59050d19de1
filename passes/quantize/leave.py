"""Which units stay float though they could be integers: by name, or for want of data."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from optc.models.model import Model
from optc.passes.names import layer_name, match_patterns
from optc.passes.prune.layers import WEIGHT_INPUTS
from optc.passes.quantize.groups import Seen, sources
from optc.passes.quantize.region import Region, find_region
from optc.passes.quantize.scales import LARGEST, SMALLEST

_CODES = 127
"""Steps from zero to the largest code, of the coarsest type."""


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
    region = find_region(model, False)
    names = [layer_name(u.head) for u in region.units if u.seed]
    names += [layer_name(n) for n, why in region.left if n.op in WEIGHT_INPUTS and "quantized already" in why]
    chosen, skipped = (match_patterns("quantize", names, patterns) for patterns in (layers, skip))
    found = {n: "its name matches none of 'layers'" for n in names if layers and n not in chosen}
    return found | dict.fromkeys(skipped, "its name matches 'skip'")


def unseen_units(region: Region, known: Mapping[str, Seen]) -> dict[str, str]:
    """The units that make or read a value whose range no code can say, with the reason.

    That is a value of which calibration showed nothing but zeros (a code for it would destroy whatever else
    comes along later), or whose range passes the bounds of scales.
    """
    found: dict[str, str] = {}
    reasons = {id(t): _unseen(t.name, *known[t.name].range) for t in sources(region)}
    for unit in region.units:
        for tensor in (*unit.operands, unit.output):
            reason = reasons.get(id(tensor))
            if reason:
                found.setdefault(layer_name(unit.head), reason)
    return found


def _unseen(name: str, low: float, high: float) -> str | None:
    """Why there is no code for what was seen in [low, high], or None."""
    largest = max(-low, high)
    if (low, high) == (0.0, 0.0):
        return f"calibration showed nothing but zeros of '{name}'"
    if _CODES * SMALLEST <= largest <= _CODES * LARGEST:
        return None
    return f"calibration showed '{name}' up to {largest:.3g}, beyond the bounds of scales"
