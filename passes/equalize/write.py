"""Writing scales into the constants that take them in."""

from __future__ import annotations

from typing import Any

import numpy as np
import onnx_graphsurgeon as gs
from numpy.typing import NDArray

from optc.passes.canonicalize.edit import Edit
from optc.passes.equalize.groups import Found
from optc.passes.equalize.scaled import Slot

Array = NDArray[Any]

_LIMIT = float(np.finfo(np.float32).max)


def write_scales(edit: Edit, found: Found, logs: Array) -> None:
    """Divide what makes channels by their scales, multiply what reads them.

    `logs`: the scales' logarithms, by component. A constant that several nodes read is copied where their
    scales differ.
    """
    slots: dict[tuple[int, int], list[Slot]] = {}
    for slot in found.slots:
        slots.setdefault(slot.constant, []).append(slot)
    made: dict[tuple[int, bytes], gs.Constant] = {}
    for of in slots.values():
        total = np.zeros(())
        for slot in of:
            own = logs[found.components[slot.atoms]]
            total = total - own if slot.makes else total + own
        if not total.any():
            continue
        place = of[0].place
        old = place.tensor
        key = (id(old), np.broadcast_to(total, old.shape).tobytes())
        if key in made:
            edit.set_input(place.node, place.index, made[key])
            continue
        exact = old.values.astype(np.float64) * np.exp(total)
        edit.put_constant(place.node, place.index, np.clip(exact, -_LIMIT, _LIMIT).astype(np.float32))
        made[key] = place.tensor
