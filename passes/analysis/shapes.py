"""Shapes of values: what is known of them, and what follows from it. Analyses only; nothing is changed."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import onnx_graphsurgeon as gs

Dim = int | str | None
"""One dimension: a number, a symbol (two equal symbols are one number), or unknown."""

Shape = tuple[Dim, ...]

_ANONYMOUS = {"", "?", "None", "none", "unknown", "-1"}
"""Symbols that exporters write for "some number": equal ones need not be equal numbers."""


def shape_of(tensor: gs.Tensor) -> Shape | None:
    """The shape of a value, None where even the rank is unknown."""
    shape = tensor.shape
    if shape is None or getattr(tensor, "type", None) not in (None, "tensor_type"):
        return None
    return tuple(dim_of(d) for d in shape)


def dim_of(dim: Any) -> Dim:
    """A dimension as GraphSurgeon or ONNX writes it: a number, a symbol, or (negative, anonymous) unknown."""
    if isinstance(dim, str):
        return None if dim in _ANONYMOUS else dim
    if dim is None or int(dim) < 0:
        return None
    return int(dim)


def static_shape(tensor: gs.Tensor) -> tuple[int, ...] | None:
    """The shape where every dimension is a number, else None."""
    shape = shape_of(tensor)
    if shape is None:
        return None
    numbers = tuple(d for d in shape if isinstance(d, int))
    return numbers if len(numbers) == len(shape) else None


def rank_of(tensor: gs.Tensor) -> int | None:
    """How many dimensions a value has, None where unknown."""
    shape = shape_of(tensor)
    return None if shape is None else len(shape)


def same_shape(a: Shape | None, b: Shape | None) -> bool:
    """Whether two shapes are proved equal."""
    return a is not None and a == b and None not in a


def same_data_shape(a: Shape | None, b: Shape | None) -> bool:
    """Whether two shapes of the same elements are proved equal: one dimension may be unknown in either."""
    if a is None or b is None or len(a) != len(b):
        return False
    unproved = [(x, y) for x, y in zip(a, b, strict=True) if x != y or x is None]
    if any(isinstance(x, int) and isinstance(y, int) for x, y in unproved):
        return False
    proved = [x for x, y in zip(a, b, strict=True) if x == y and x is not None]
    return not unproved or (len(unproved) == 1 and 0 not in proved)


def reshape_target(source: Shape | None, target: Shape | None) -> list[int] | None:
    """The constant second input of a Reshape that takes `source` to `target`, None where there is none.

    A dimension of `target` that stands at the same place in `source` may be 0 (copy), one other may be -1.
    """
    if target is None or 0 in target:
        return None
    result: list[int] = []
    for place, dim in enumerate(target):
        copied = source is not None and place < len(source) and dim is not None and source[place] == dim
        if isinstance(dim, int):
            result.append(dim)
        else:
            result.append(0 if copied else -1)
    return result if result.count(-1) <= 1 else None


def broadcasts_into(small: Sequence[int], big: Shape | None) -> bool:
    """Whether broadcasting an array of shape `small` against a value of shape `big` leaves `big` as it is."""
    if all(d == 1 for d in small):
        return len(small) == 0 or (big is not None and len(small) <= len(big))
    if big is None or len(small) > len(big):
        return False
    return all(s in (1, b) for s, b in zip(reversed(small), reversed(big), strict=False))
