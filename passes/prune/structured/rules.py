"""The table of operators that channels are followed through."""

from __future__ import annotations

from collections.abc import Callable

from optc.passes.prune.structured.rule import Result, Rule
from optc.passes.prune.structured.rules_layers import (
    batch_normalization,
    convolution,
    gemm,
    instance_normalization,
    matmul,
)
from optc.passes.prune.structured.rules_pieces import concat, gather, slice_, split
from optc.passes.prune.structured.rules_reshape import reshape
from optc.passes.prune.structured.rules_through import (
    elementwise,
    layer_normalization,
    pad,
    pool,
    reduce,
    resize,
    shape,
    softmax,
    squeeze,
    transpose,
)

# fmt: off
_ELEMENTWISE = [
    "Abs", "Add", "And", "BitShift", "Cast", "CastLike", "Ceil", "Celu", "Clip", "Cos", "Div", "Dropout",
    "Elu", "Equal", "Erf", "Exp", "Floor", "Gelu", "Greater", "GreaterOrEqual", "HardSigmoid",
    "HardSwish", "Identity", "IsInf", "IsNaN", "LeakyRelu", "Less", "LessOrEqual", "Log", "Max", "Mean",
    "Min", "Mish", "Mod", "Mul", "Neg", "Not", "Or", "PRelu", "Pow", "Reciprocal", "Relu", "Round",
    "Selu", "Shrink", "Sigmoid", "Sign", "Sin", "Softplus", "Softsign", "Sqrt", "Sub", "Sum", "Swish",
    "Tan", "Tanh", "ThresholdedRelu", "Where", "Xor",
]
_POOLS = [
    "AveragePool", "GlobalAveragePool", "GlobalLpPool", "GlobalMaxPool", "LpPool", "MaxPool",
]
_REDUCES = [
    "ReduceL1", "ReduceL2", "ReduceLogSum", "ReduceLogSumExp", "ReduceMax", "ReduceMean", "ReduceMin",
    "ReduceProd", "ReduceSum", "ReduceSumSquare",
]
# fmt: on

RULES: dict[str, Callable[[Rule], Result]] = {
    **dict.fromkeys(_ELEMENTWISE, elementwise),
    **dict.fromkeys(_POOLS, pool),
    **dict.fromkeys(_REDUCES, reduce),
    **dict.fromkeys(("Softmax", "LogSoftmax", "Hardmax"), softmax),
    **dict.fromkeys(("LayerNormalization", "RMSNormalization"), layer_normalization),
    **dict.fromkeys(("Squeeze", "Unsqueeze"), squeeze),
    **dict.fromkeys(("Reshape", "Flatten"), reshape),
    **dict.fromkeys(("Conv", "ConvTranspose"), convolution),
    "BatchNormalization": batch_normalization,
    "InstanceNormalization": instance_normalization,
    "Concat": concat,
    "Split": split,
    "Slice": slice_,
    "Gather": gather,
    "Gemm": gemm,
    "MatMul": matmul,
    "Pad": pad,
    "Resize": resize,
    "Shape": shape,
    "Transpose": transpose,
}
"""Operator, and what it does to channels; any other keeps all that it touches as it is."""
