"""The operations of an integer program (docs/semantics.md). Values are named as in the ONNX graph.

A value of the program is a tensor of codes (named as what a QuantizeLinear writes), an int32 accumulator or a
float tensor (both named as the tensor of the graph whose place they take). Every array of one entry a channel
(scale, multiplier, shift, bias) has a shape that broadcasts, right-aligned, against the accumulator: `[]`
for one in all, `[c, 1, 1]` for a 2-D convolution, `[c]` for a MatMul.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Literal

from numpy.typing import NDArray

from optc.passes.quantize.reference import Rounding
from optc.passes.quantize.scales import Code

Array = NDArray[Any]


@dataclass(frozen=True, eq=False)
class Op:
    """What every operation has.

    `nodes`: the ONNX nodes that it replaces, each by the name of its first output (nodes themselves need no
    name); `inputs`: the values that it reads, weights and other constants left out; `output`: what it writes.
    """

    nodes: tuple[str, ...]
    inputs: tuple[str, ...]
    output: str


@dataclass(frozen=True)
class Clamped:
    """A code to be written, and the smallest and largest code that may appear (the type's, or a Clip's)."""

    code: Code
    low: int
    high: int


@dataclass(frozen=True, eq=False)
class Scaled:
    """To codes, free scales: `clamp(R(f32(f32(acc) * multiplier)) + z)`; `multiplier` is float32."""

    target: Clamped
    multiplier: Array


@dataclass(frozen=True, eq=False)
class Shifted:
    """To codes, power-of-two scales: `clamp(R(acc / 2**bits) + z)`; `bits` is int64, negative to the left."""

    target: Clamped
    bits: Array


@dataclass(frozen=True, eq=False)
class Biased:
    """To codes, with a bias that is no int32 of the accumulator's scale: `scale`, `bias` are float32.

    `clamp(R((acc * scale + bias) / s) + z)` in float64: one product (exact), one sum, one division.
    """

    target: Clamped
    scale: Array
    bias: Array


@dataclass(frozen=True, eq=False)
class ToAccumulator:
    """The int32 accumulator itself, for a Sum; `scale`: float32, the value of its unit."""

    scale: Array


@dataclass(frozen=True, eq=False)
class ToFloat:
    """To float: `f32(f32(acc) * scale)`; with a float32 `bias` `f32(acc * scale + bias)`, both in float64."""

    scale: Array
    bias: Array | None = None


Ending = Scaled | Shifted | Biased | ToAccumulator | ToFloat
"""What becomes of an accumulator."""


@dataclass(frozen=True, eq=False)
class Quantize(Op):
    """Codes of a float value: `clamp(R(f32(x / s)) + z)`, the division in float32."""

    code: Code


@dataclass(frozen=True, eq=False)
class Dequantize(Op):
    """The float value of codes: `f32(q - z)` times `s`, in float32."""

    code: Code


@dataclass(frozen=True)
class Window:
    """A sliding window over the last `len(kernel)` axes; `pads`: all begins, then all ends.

    `auto_pad` SAME_UPPER or SAME_LOWER: the pads follow from the input's size at run time (`windows.padding`
    gives them); otherwise NOTSET, VALID being pads of 0. `ceil_mode`: of pooling (`windows.output_size`).

    `transposed`: of a ConvTranspose: input i reaches the outputs `i * stride + k * dilation - pad`; `extra`:
    positions that its output has beyond those, its output_padding.
    """

    kernel: tuple[int, ...]
    strides: tuple[int, ...]
    dilations: tuple[int, ...]
    pads: tuple[int, ...]
    auto_pad: Literal["NOTSET", "SAME_UPPER", "SAME_LOWER"] = "NOTSET"
    ceil_mode: bool = False
    transposed: bool = False
    extra: tuple[int, ...] = ()


@dataclass(frozen=True, eq=False)
class Layer(Op):
    """A layer with weights: `acc = sum((q_x - z_x) * weight) + bias`, exact in int32, then its ending.

    A convolution, maybe transposed, where `window` is given: input [n, group * ci, ...], `weight` int8
    [co, ci, *kernel]; padding holds the zero point. Otherwise a MatMul (a Gemm too): `weight` int8
    [..., k, c], as in numpy. `bias`: int32, broadcastable, or None. `bound`: no |acc| is larger, partial sums
    neither.
    """

    code: Code
    weight: Array
    bias: Array | None
    window: Window | None
    group: int
    ending: Ending
    bound: int


@dataclass(frozen=True, eq=False)
class Product(Op):
    """MatMul of two activations: `acc = sum((q_a - z_a) * (q_b - z_b))`, exact in int32, then its ending."""

    codes: tuple[Code, Code]
    ending: Scaled | Shifted | ToFloat


@dataclass(frozen=True, eq=False)
class Term:
    """A term of a sum, `scale * (value - zero_point)`: codes, or an accumulator (zero point 0).

    `scale`: float32, broadcastable against the value. `bound`: no |value - zero_point| is larger.
    """

    scale: Array
    zero_point: int
    bound: int


@dataclass(frozen=True, eq=False)
class Sum(Op):
    """An Add, or a Relu or Clip by itself (one term): `clamp(R((sum s_i * k_i) / s_y) + z_y)` in float64.

    `terms`: one for each of `inputs`, added in this order, which broadcast against each other as ONNX says.
    Where all scales are powers of two and the sum fits int32, `sums.shifts` gives the same in integers.
    """

    terms: tuple[Term, ...]
    target: Clamped


@dataclass(frozen=True, eq=False)
class Channelwise(Op):
    """Add, Max, Min by constants, Relu and Clip in a row: `min(max((q - z) + add, low), high) + z`, exact.

    `code`: the input's and the output's. `add` (None: nothing is added), `low`, `high`: int32, relative to
    the zero point, broadcastable, right-aligned, against the codes: `[]`, `[c, 1, 1]`. `low <= high`, both
    within the limits of the codes; |add| is at most 512, which saturates whatever it is added to.
    """

    code: Code
    add: Array | None
    low: Array
    high: Array


@dataclass(frozen=True, eq=False)
class MaxPool(Op):
    """The largest code in each window; padding loses against every code. The output's code is the input's."""

    code: Code
    window: Window


@dataclass(frozen=True, eq=False)
class AveragePool(Op):
    """`clamp(R((s_x * sum(q_x - z_x)) / (n * s_y)) + z_y)` in float64 over the n values that are counted.

    `window` None: GlobalAveragePool, over all axes behind the second. `windows.counts` gives n, which varies
    at the border unless `count_pads`.
    """

    code: Code
    target: Clamped
    window: Window | None
    count_pads: bool


@dataclass(frozen=True, eq=False)
class Move(Op):
    """Codes moved or selected: Reshape, Transpose, Flatten, Slice, Squeeze, Unsqueeze, as ONNX says.

    `inputs` holds the codes only. `attributes`: the node's. `parameters`: its other inputs in order, '' where
    absent; `constants`: the arrays of those that are constant, by name; the others are values of the graph.
    """

    op: str
    attributes: dict[str, Any]
    parameters: tuple[str, ...]
    constants: dict[str, Array]
    code: Code


@dataclass(frozen=True, eq=False)
class Concat(Op):
    """Codes side by side along `axis`.

    An operand whose code is not the output's is brought to it first: `clamp(R((s_i * k_i) / s_y) + z_y)`.
    """

    axis: int
    codes: tuple[Code, ...]
    code: Code


@dataclass(frozen=True)
class Left:
    """A node that stays float: the name of its first output, its operator, and why."""

    node: str
    op: str
    reason: str


@dataclass(frozen=True)
class IntegerProgram:
    """A quantized model: integer operations in graph order, and the nodes that stay as they are."""

    ops: tuple[Op, ...]
    left: tuple[Left, ...]
    rounding: Rounding

    def accumulators(self) -> frozenset[str]:
        """The names of the values that are int32 accumulators."""
        return frozenset(
            op.output for op in self.ops if isinstance(op, Layer) and isinstance(op.ending, ToAccumulator)
        )
