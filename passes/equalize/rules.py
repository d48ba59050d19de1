"""The table of operators that scales of channels go through, or into."""

from __future__ import annotations

from collections.abc import Callable

from optc.models.model import Model
from optc.passes.equalize.rules_layers import convolution, gemm, matmul, normalization
from optc.passes.equalize.rules_sums import clip, multiply, through, together
from optc.passes.equalize.scaled import ScaledRule, Slot
from optc.passes.prune.structured import rules_through
from optc.passes.prune.structured.rule import Result, Rule
from optc.passes.prune.structured.rules_pieces import concat, gather, slice_, split
from optc.passes.prune.structured.rules_reshape import reshape
from optc.passes.prune.structured.rules_through import pool, squeeze, transpose


def _dropout(rule: ScaledRule) -> Result:
    return "it drops values at random" if rule.given(2) else through(rule)


def _reduce(rule: ScaledRule) -> Result:
    if rule.node.attrs.get("noop_with_empty_axes", 0):
        return "it may reduce nothing"
    return rules_through.reduce(rule)


def _pad(rule: ScaledRule) -> Result:
    """Zeros have any scale, and what is repeated has the scale of its channel."""
    values = rule.constant(2)
    zero = not values.any() if values is not None else not rule.given(2)
    if not zero or rule.node.attrs.get("value", 0.0) != 0:
        return "it pads with other values than 0"
    return rules_through.pad(rule)


def _resize(rule: ScaledRule) -> Result:
    if rule.node.attrs.get("coordinate_transformation_mode", "") == "tf_crop_and_resize":
        return "it may pad with other values than 0"
    return rules_through.resize(rule)


def _shape(rule: ScaledRule) -> Result:
    """Sizes say nothing of values."""
    for axis in range(rule.rank(rule.x)):
        rule.atoms(rule.x, axis)
    return None


# fmt: off
_RULES: dict[str, Callable[[ScaledRule], Result]] = {
    **dict.fromkeys(("Abs", "Div", "Identity", "LeakyRelu", "Neg", "PRelu", "Relu"), through),
    **dict.fromkeys(("Add", "Max", "Mean", "Min", "Sub", "Sum"), together),
    **dict.fromkeys(("AveragePool", "GlobalAveragePool", "GlobalLpPool"), pool),
    **dict.fromkeys(("GlobalMaxPool", "LpPool", "MaxPool"), pool),
    **dict.fromkeys(("Conv", "ConvTranspose"), convolution),
    **dict.fromkeys(("Flatten", "Reshape"), reshape),
    **dict.fromkeys(("LayerNormalization", "RMSNormalization"), normalization),
    **dict.fromkeys(("ReduceL1", "ReduceL2", "ReduceMax", "ReduceMean", "ReduceMin", "ReduceSum"), _reduce),
    **dict.fromkeys(("Shape", "Size"), _shape),
    **dict.fromkeys(("Squeeze", "Unsqueeze"), squeeze),
    "Clip": clip,
    "Concat": concat,
    "Dropout": _dropout,
    "Gather": gather,
    "Gemm": gemm,
    "MatMul": matmul,
    "Mul": multiply,
    "Pad": _pad,
    "Resize": _resize,
    "Slice": slice_,
    "Split": split,
    "Transpose": transpose,
}
"""Operator, and what it does to scales; any other keeps all that it touches as it is."""
# fmt: on


def rules_for(model: Model, slots: list[Slot], factors: bool) -> dict[str, Callable[[Rule], Result]]:
    """The rules for the nodes of `model`; they add to `slots` what takes in scales.

    `factors`: the constant of a Mul does so too, else all scales go through it.
    """

    def bound(apply: Callable[[ScaledRule], Result]) -> Callable[[Rule], Result]:
        def run(rule: Rule) -> Result:
            scaled = ScaledRule(rule.node, rule.axes, model, slots, factors)
            reason = apply(scaled)
            if reason is None:
                scaled.finish()
            return reason

        return run

    return {op: bound(apply) for op, apply in _RULES.items()}
