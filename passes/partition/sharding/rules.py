"""The table of operators: along which indices each can be cut; one that is not in it runs whole."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping

from optc.passes.partition.sharding import rules_linear, rules_pointwise, rules_shape, rules_spatial
from optc.passes.partition.sharding.factor import Factor, even
from optc.passes.partition.sharding.layout import Layout, Spec, Split
from optc.passes.partition.sharding.op import Op

# fmt: off
_ELEMENTWISE = (
    "Abs", "Acos", "Acosh", "Add", "And", "Asin", "Asinh", "Atan", "Atanh", "BitShift", "BitwiseAnd",
    "BitwiseNot", "BitwiseOr", "BitwiseXor", "Cast", "CastLike", "Ceil", "Celu", "Clip", "Cos", "Cosh",
    "Div", "Elu", "Equal", "Erf", "Exp", "Floor", "Gelu", "Greater", "GreaterOrEqual", "HardSigmoid",
    "HardSwish", "Identity", "IsInf", "IsNaN", "LeakyRelu", "Less", "LessOrEqual", "Log", "Max", "Mean",
    "Min", "Mish", "Mod", "Mul", "Neg", "Not", "Or", "PRelu", "Pow", "Reciprocal", "Relu", "Round", "Selu",
    "Shrink", "Sigmoid", "Sign", "Sin", "Sinh", "Softplus", "Softsign", "Sqrt", "Sub", "Sum", "Swish",
    "Tan", "Tanh", "ThresholdedRelu", "Where", "Xor",
)
_REDUCTIONS = (
    "ReduceL1", "ReduceL2", "ReduceLogSum", "ReduceLogSumExp", "ReduceMax", "ReduceMean", "ReduceMin",
    "ReduceProd", "ReduceSum", "ReduceSumSquare",
)
_RULES: Mapping[str, Callable[[Op], Iterator[Factor]]] = {
    **dict.fromkeys(_ELEMENTWISE, rules_pointwise.elementwise),
    **dict.fromkeys(_REDUCTIONS, rules_pointwise.reduce),
    **dict.fromkeys(("ArgMax", "ArgMin"), rules_pointwise.arg),
    **dict.fromkeys(rules_spatial.POOLS, rules_spatial.pool),
    **dict.fromkeys(("Conv", "ConvTranspose"), rules_spatial.convolution),
    **dict.fromkeys(("DequantizeLinear", "QuantizeLinear"), rules_pointwise.quantize),
    **dict.fromkeys(("Flatten", "Reshape", "Squeeze", "Unsqueeze"), rules_shape.view),
    **dict.fromkeys(("GlobalAveragePool", "GlobalLpPool", "GlobalMaxPool"), rules_spatial.global_pool),
    **dict.fromkeys(("Hardmax", "LogSoftmax", "Softmax"), rules_pointwise.softmax),
    **dict.fromkeys(("LayerNormalization", "RMSNormalization"), rules_pointwise.layer_normalization),
    **dict.fromkeys(("Resize", "Upsample"), rules_shape.resize),
    "BatchNormalization": rules_pointwise.batch_normalization,
    "Concat": rules_shape.concat,
    "Dropout": rules_pointwise.dropout,
    "Expand": rules_pointwise.expand,
    "Gather": rules_shape.gather,
    "Gemm": rules_linear.gemm,
    "InstanceNormalization": rules_pointwise.instance_normalization,
    "LRN": rules_pointwise.lrn,
    "MatMul": rules_linear.matmul,
    "Pad": rules_shape.pad,
    "Slice": rules_shape.slice_,
    "Split": rules_shape.split,
    "Tile": rules_shape.tile,
    "Transpose": rules_shape.transpose,
}
# fmt: on


def factors(op: Op) -> list[Factor]:
    """The indices along which a node can be cut."""
    rule = _RULES.get(op.kind)
    return [] if rule is None or not op.outs else list(rule(op))


def whole(op: Op) -> Layout:
    """Everything on every device: what each node can do."""
    return Layout((None,) * len(op.ins), (None,) * len(op.outs))


def layouts(op: Op, count: int, units: Callable[[Factor], int] | None = None) -> list[Layout]:
    """All layouts of a node over `count` devices, the whole one first.

    `units`: how many pieces a factor has that must not be cut, a divisor of its own number, which is the
    default. What is summed lies whole on every device afterwards, or along any axis of the output that can
    be cut.
    """
    cut: list[tuple[Factor, Layout]] = []
    for factor in factors(op):
        pieces = factor.units if units is None else units(factor)
        if pieces >= count:
            cuts = [c * (factor.units // pieces) for c in even(pieces, count)]
            layout = factor.layout(op, cuts)
            if layout is not None and _sound(op, factor, layout):
                cut.append((factor, layout))
    scattered = [layout.outputs for factor, layout in cut if not factor.reduce and len(op.outs) == 1]
    found = [whole(op)]
    for factor, layout in cut:
        found.append(layout)
        if factor.reduce:
            found += [Layout(layout.inputs, outputs, True) for outputs in scattered]
    return found


def allows(op: Op, layout: Layout) -> bool:
    """Whether a node can run in `layout`, whatever its ranges are."""
    if len(layout.inputs) != len(op.ins) or len(layout.outputs) != len(op.outs):
        return False
    if layout == whole(op):
        return True
    if layout.reduce:
        scatter = next((spec for spec in layout.outputs if spec is not None), None)
        if scatter is not None and (len(op.outs) > 1 or not _covers(op.outs[0], scatter)):
            return False
    return any(_matches(op, factor, layout) for factor in factors(op) if factor.reduce == layout.reduce)


def _covers(shape: object, split: Split) -> bool:
    if not isinstance(shape, tuple) or not 0 <= split.axis < len(shape):
        return False
    at = 0
    for start, stop in split.ranges:
        if start != at or stop <= start:
            return False
        at = stop
    return bool(at == shape[split.axis])


def _matches(op: Op, factor: Factor, layout: Layout) -> bool:
    """Whether the ranges of `layout` are those of some cuts of `factor`."""
    spec, size = _anchor(op, factor, layout)
    if spec is None or not isinstance(size, int) or not spec.ranges:
        return False
    cuts = [spec.ranges[0][0], *(stop for _, stop in spec.ranges)]
    if any(cut * factor.units % size for cut in cuts):
        return False
    found = factor.layout(op, [cut * factor.units // size for cut in cuts])
    if cuts[0] or cuts[-1] != size or cuts != sorted(set(cuts)) or found is None:
        return False
    outputs = layout.outputs if factor.reduce else found.outputs
    return Layout(found.inputs, outputs, factor.reduce) == layout and _sound(op, factor, layout)


def _anchor(op: Op, factor: Factor, layout: Layout) -> tuple[Spec, object]:
    """The spec of an axis that `factor` runs along, and the size of that axis."""
    for place, axis in factor.outputs.items():
        shape = op.outs[place]
        return layout.outputs[place], None if shape is None else shape[axis]
    for place, axis in factor.inputs.items():
        return layout.inputs[place], op.dim(place, axis)
    return None, None


def _sound(op: Op, factor: Factor, layout: Layout) -> bool:
    """Whether ONNX Runtime takes what the devices see: it wants a pool's padding below the pool's size."""
    split = layout.outputs[0]
    if factor.window is None or split is None or op.kind not in rules_spatial.POOLS:
        return True
    size = (op.ints("kernel_shape") or [0])[split.axis - 2 :][0]
    return all(pad < size for out in split.ranges for pad in factor.window.pads(out))
