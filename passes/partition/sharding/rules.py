"""The table of operators: along which indices each can be cut; one that is not in it runs whole."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping

from optc.passes.partition.sharding import rules_linear, rules_pointwise, rules_shape, rules_spatial
from optc.passes.partition.sharding.factor import Factor
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
