"""Sums, bounds and factors: constants that take scales in, and values that have the same."""

from __future__ import annotations

import numpy as np

from optc.passes.equalize.scaled import ScaledRule
from optc.passes.prune.structured.axes import Place
from optc.passes.prune.structured.rule import Result


def together(rule: ScaledRule) -> Result:
    """Add, Sub, Max, Min, Sum, Mean: with all operands scaled by s > 0, so is the result."""
    rank = rule.rank(rule.y)
    for place in rule.inputs:
        values = rule.constant(place.index)
        if values is not None and not values.any():
            continue  # 0 has any scale
        for axis in range(rank):
            reason = meet(rule, place, axis - rank + rule.rank(place), axis)
            if reason:
                return reason
    return None


def meet(rule: ScaledRule, place: Place, own: int, axis: int) -> Result:
    """Let axis `own` of an operand, negative where it has none, have the scales of the result's `axis`.

    Where the operand is repeated along it, there are none.
    """
    y, constant = rule.y, rule.constant(place.index)
    size = (place.shape or ())[own] if own >= 0 else 1
    if own < 0 or (size == 1 and (y.shape or ())[axis] != 1):
        rule.stay(y, [axis], f"{rule.node.op} repeats an operand along them")
        if own >= 0:
            rule.stay(place, [own], "it is repeated")
    elif rule.varies(place.index):
        rule.link((place, own), (y, axis))
    elif constant is None:
        return "it has a constant that is not float32, or that a caller may override"
    elif (atoms := rule.atoms(y, axis)) is not None:
        rule.slot(place.index, y, axis, atoms.reshape(-1, *[1] * (constant.ndim - 1 - own)))
    return None


def multiply(rule: ScaledRule) -> Result:
    """Mul by a constant: scales go through it, or, with `factors`, into it."""
    index = 0 if rule.is_constant(0) else 1
    constant = rule.constant(index)
    if len(rule.inputs) != 2 or constant is None or not rule.varies(1 - index):
        return "it multiplies two activations, or by a constant that is not float32"
    x, y, rank = Place(rule.node, 1 - index), rule.y, rule.rank(rule.y)
    if rule.rank(x) != rank or x.shape != y.shape:
        return "it repeats what it reads"
    for axis in range(rank):
        own = axis - rank + constant.ndim
        if own < 0 or constant.shape[own] == 1 or not rule.factors:
            rule.link((x, axis), (y, axis))
            continue
        for value in (x, y):
            atoms = rule.atoms(value, axis)
            if atoms is not None:
                rule.slot(index, value, axis, atoms.reshape(-1, *[1] * (constant.ndim - 1 - own)))
    return None


def clip(rule: ScaledRule) -> Result:
    """Bounds of 0, or none, hold for any scale."""
    for index, attribute in ((1, "min"), (2, "max")):
        values = rule.constant(index)
        if rule.given(index) and values is None:
            return "its bounds are no constants"
        bound = float(values.reshape(())) if values is not None else rule.node.attrs.get(attribute, np.inf)
        if bound != 0 and abs(bound) < np.finfo(np.float32).max:
            return f"it has a bound of {bound:g}"
    return through(rule)


def through(rule: ScaledRule) -> Result:
    """f(s * x) = s * f(x) for s > 0 of the first input and output, element by element."""
    rank = rule.rank(rule.y)
    if rule.rank(rule.x) != rank:
        return "it repeats what it reads"
    for axis in range(rank):
        rule.link((rule.x, axis), (rule.y, axis))
    return None
