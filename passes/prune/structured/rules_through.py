"""Operators that channels go through as they are, but for some axes."""

from __future__ import annotations

from optc.passes.prune.structured.rule import Result, Rule


def elementwise(rule: Rule) -> Result:
    """Numpy's broadcasting: axes are aligned at the end; what has size 1 is repeated, and has no channels."""
    out = rule.y.shape or ()
    for place in rule.inputs:
        shape = place.shape or ()
        for axis, size in enumerate(shape):
            to = len(out) - len(shape) + axis
            if size != 1 or out[to] == 1:
                rule.link((place, axis), (rule.y, to))
    return None


def same_shape(rule: Rule, fixed: list[int], reason: str) -> Result:
    """All axes go through but the `fixed` ones."""
    for axis in range(rule.rank(rule.x)):
        if axis in fixed:
            rule.stay(rule.x, [axis], reason)
            rule.stay(rule.y, [axis], reason)
        else:
            rule.link((rule.x, axis), (rule.y, axis))
    return None


def layer_normalization(rule: Rule) -> Result:
    """The axes from `axis` on are normalised."""
    rank = rule.rank(rule.x)
    return same_shape(rule, list(range(rule.axis(-1, rank), rank)), f"{rule.node.op} normalises over it")


def softmax(rule: Rule) -> Result:
    """One axis is normalised; before opset 13 all from it on."""
    rank = rule.rank(rule.x)
    axis = rule.axis(-1, rank)
    return same_shape(rule, list(range(axis, rank)), f"{rule.node.op} normalises over it")


def pool(rule: Rule) -> Result:
    """Batch and channels go through, the plane does not."""
    for place in (rule.x, *rule.outputs):
        rule.stay(place, range(2, rule.rank(place)), "it is a side of an image")
    for axis in (0, 1):
        for place in rule.outputs:
            rule.link((rule.x, axis), (place, axis))
    return None


def reduce(rule: Rule) -> Result:
    """Reduced axes must stay; the others go through."""
    rank, axes = rule.rank(rule.x), rule.numbers(1, "axes")
    if axes is None and rule.given(1):
        return "the axes that it reduces are computed at run time"
    if not axes and rule.node.attrs.get("noop_with_empty_axes", 0):
        return elementwise(rule)
    reduced = {a % rank for a in axes} if axes else set(range(rank))
    keep = rule.node.attrs.get("keepdims", 1)
    rule.stay(rule.x, sorted(reduced), f"{rule.node.op} reduces over it")
    left = [a for a in range(rank) if a not in reduced]
    for to, axis in enumerate(left):
        rule.link((rule.x, axis), (rule.y, axis if keep else to))
    return None


def pad(rule: Rule) -> Result:
    """Padded axes must stay; the others go through."""
    pads, rank = rule.numbers(1, "pads"), rule.rank(rule.x)
    if pads is None or len(pads) != 2 * rank:
        return "what it pads is computed at run time, or only some axes are named"
    return same_shape(rule, [a for a in range(rank) if pads[a] or pads[a + rank]], "it is padded")


def resize(rule: Rule) -> Result:
    """Axes that keep their size go through."""
    x, y = rule.x.shape or (), rule.y.shape or ()
    return same_shape(rule, [a for a in range(len(x)) if x[a] != y[a]], "it is resized")


def shape(rule: Rule) -> Result:
    """Whoever asks for a size of fixed axes keeps them; a size that is free says nothing of channels."""
    first = int(rule.node.attrs.get("start", 0))
    if not rule.node.outputs[0].outputs:
        return "its sizes are an output of the model"
    for reader in rule.node.outputs[0].outputs:
        at = Rule(reader, rule.axes).numbers(1, "") if reader.op == "Gather" else None
        if at is None or first:
            return "its sizes are computed with"
        rule.stay(rule.x, [a % rule.rank(rule.x) for a in at], "its size is computed with")
    return None


def transpose(rule: Rule) -> Result:
    """Axes change places."""
    rank = rule.rank(rule.x)
    order = rule.node.attrs.get("perm", list(reversed(range(rank))))
    for to, axis in enumerate(order):
        rule.link((rule.x, axis), (rule.y, to))
    return None


def squeeze(rule: Rule) -> Result:
    """Squeeze and Unsqueeze: axes of size 1 go or come."""
    small, large = (rule.y, rule.x) if rule.node.op == "Squeeze" else (rule.x, rule.y)
    axes, rank = rule.numbers(1, "axes"), rule.rank(large)
    if axes is None:
        return "it names no axes"
    single = {a % rank for a in axes}
    for to, axis in enumerate(a for a in range(rank) if a not in single):
        rule.link((small, to), (large, axis))
    return None
