import numpy as np
import onnx
import pytest

from optc.models.errors import InputError
from optc.models.model import Model
from optc.passes.quantize.integer.ops import (
    AveragePool,
    Biased,
    Channelwise,
    Concat,
    Dequantize,
    IntegerProgram,
    Layer,
    MaxPool,
    Move,
    Op,
    Product,
    Quantize,
    Scaled,
    Shifted,
    Sum,
    ToAccumulator,
    ToFloat,
)
from optc.passes.quantize.integer.recognize import integer_program, model_rounding

CONSTANTS = """float s = {0.5}, float t = {0.3}, uint8 z = {3}, uint8 zt = {0}, int8 zi = {1},
 int8[2,2] w = {1,-2,3,127}, float[2] sw = {0.1,0.2}, int8[2] zw = {0,0}, float sone = {0.25},
 int32[2] b = {10,-20}, float[2] sb = {0.05,0.1}, float[2] bf = {1,2}, uint8[2,2] wu = {0,255,128,130},
 uint8 zu = {128}, uint8 zlow = {0}, float[2,2] wf = {0.1,0.2,-0.3,30}, int8[1,2,1,1] wc = {5,-5},
 float low = {-1}, float high = {6}, int64[2] shape = {2,-1}, float far = {1e-30},
 int32[2,1,1] k = {5,-7}"""


def program(body: str, types: str = "float[2,2] x) => (float[2,2] y", opset: int = 21) -> IntegerProgram:
    text = f"""<ir_version: 10, opset_import: ["" : {opset}]> g ({types}) <{CONSTANTS}> {{
        q = QuantizeLinear (x, s, z) d = DequantizeLinear (q, s, z) {body} }}"""
    return integer_program(Model(onnx.parser.parse_model(text)))


def only(kind: type[Op], found: IntegerProgram) -> Op:
    (op,) = [op for op in found.ops if isinstance(op, kind)]
    return op


WEIGHT = "wd = DequantizeLinear <axis=1> (w, sw, zw)"
TAIL = "yq = QuantizeLinear (m, t, zt) y = DequantizeLinear (yq, t, zt)"


def test_layer_with_bias_add_clip_and_its_nodes() -> None:
    found = program(
        f"""{WEIGHT} n = MatMul (d, wd) bd = DequantizeLinear <axis=0> (b, sb)
        a = Add (bd, n) m = Clip (a, low, high) {TAIL}"""
    )
    layer = only(Layer, found)
    assert isinstance(layer, Layer) and isinstance(layer.ending, Scaled)
    assert (layer.inputs, layer.output) == (("q",), "yq")
    assert layer.nodes == ("d", "wd", "n", "bd", "a", "m", "yq")
    assert layer.bias is not None and layer.bias.tolist() == [10, -20] and layer.bias.dtype == np.int32
    assert (layer.ending.target.low, layer.ending.target.high) == (0, 20)
    wanted = np.float32(0.5) * np.array([0.1, 0.2], np.float32) / np.float32(0.3)
    assert layer.ending.multiplier.tolist() == wanted.tolist()
    assert layer.bound == max(252 * (1 + 3) + 10, 252 * (2 + 127) + 20)
    assert [type(op) for op in found.ops] == [Quantize, Layer, Dequantize] and not found.left


def test_transposed_gemm_becomes_a_matmul() -> None:
    layer = only(
        Layer, program(f"wd = DequantizeLinear <axis=0> (w, sw, zw) m = Gemm <transB=1> (d, wd) {TAIL}")
    )
    assert isinstance(layer, Layer) and layer.weight.tolist() == [[1, 3], [-2, 127]]


def test_power_of_two_scales_shift() -> None:
    layer = only(
        Layer,
        program("""wd = DequantizeLinear (w, sone) m = MatMul (d, wd)
        yq = QuantizeLinear (m, s, z) y = DequantizeLinear (yq, s, z)"""),
    )
    assert isinstance(layer, Layer) and isinstance(layer.ending, Shifted)
    assert layer.ending.bits.tolist() == 2 and layer.ending.target.code.zero_point == 3


@pytest.mark.parametrize("bias", ["Gemm (d, wd, bf)", "Gemm (d, wd, bo)"])
def test_a_bias_of_another_scale_is_float(bias: str) -> None:
    found = program(f"{WEIGHT} bo = DequantizeLinear (b, sone) m = {bias} {TAIL}")
    layer = only(Layer, found)
    assert isinstance(layer, Layer) and layer.bias is None and isinstance(layer.ending, Biased)
    assert layer.ending.bias.tolist() == ([1, 2] if "bf" in bias else [2.5, -5])
    floating = only(Layer, program(f"{WEIGHT} bo = DequantizeLinear (b, sone) y = {bias}"))
    assert isinstance(floating, Layer) and isinstance(floating.ending, ToFloat)
    assert floating.ending.bias is not None


def test_uint8_weights_less_their_zero_point() -> None:
    text = "wd = DequantizeLinear (wu, sone, ZERO) m = MatMul (d, wd) " + TAIL
    layer = only(Layer, program(text.replace("ZERO", "zu")))
    assert isinstance(layer, Layer) and layer.weight.tolist() == [[-128, 127], [0, 2]]
    (left,) = [x for x in program(text.replace("ZERO", "zlow")).left if x.op == "MatMul"]
    assert left.reason == "its weight less its zero point does not fit int8"


def test_float_weight_through_q_and_dq() -> None:
    found = program(
        f"""wq = QuantizeLinear <axis=1> (wf, sw, zw) wd = DequantizeLinear <axis=1> (wq, sw, zw)
        m = MatMul (d, wd) {TAIL}"""
    )
    layer = only(Layer, found)
    assert isinstance(layer, Layer) and layer.weight.tolist() == [[1, 1], [-3, 127]]
    assert {"wq", "wd"} <= set(layer.nodes) and not found.left


def test_accumulator_of_a_layer_that_an_add_alone_reads() -> None:
    found = program(f"{WEIGHT} n = MatMul (d, wd) a = Add (n, d) m = Relu (a) {TAIL}")
    layer, total = only(Layer, found), only(Sum, found)
    assert isinstance(layer, Layer) and isinstance(layer.ending, ToAccumulator) and layer.output == "n"
    assert isinstance(total, Sum) and total.inputs == ("n", "q") and total.nodes == ("a", "m", "yq")
    assert [t.zero_point for t in total.terms] == [0, 3] and found.accumulators() == {"n"}
    assert total.terms[0].scale.tolist() == (np.float32(0.5) * np.array([0.1, 0.2], np.float32)).tolist()


def test_no_accumulator_where_floats_read_it_too_or_its_bias_is_float() -> None:
    once, twice = "float[2,2] x) => (float[2,2] y", "float[2,2] x) => (float[2,2] y, float[2,2] n"
    for body, types in ((f"{WEIGHT} n = MatMul (d, wd)", twice), (f"{WEIGHT} n = Gemm (d, wd, bf)", once)):
        found = program(f"{body} m = Add (n, d) {TAIL}", types)
        layer = only(Layer, found)
        assert isinstance(layer, Layer) and isinstance(layer.ending, ToFloat)
        assert [left.op for left in found.left] == ["Add"] and not found.accumulators()


def test_a_dq_that_is_an_output_too_stands_by_itself() -> None:
    found = program(f"{WEIGHT} m = MatMul (d, wd) {TAIL}", "float[2,2] x) => (float[2,2] y, float[2,2] d")
    assert [op.output for op in found.ops if isinstance(op, Dequantize)] == ["d", "y"]


def test_a_result_that_floats_read_too_is_float() -> None:
    found = program(
        f"{WEIGHT} m = MatMul (d, wd) e = Exp (m) {TAIL} ", "float[2,2] x) => (float[2,2] y, float[2,2] e"
    )
    layer = only(Layer, found)
    assert isinstance(layer, Layer) and isinstance(layer.ending, ToFloat) and layer.output == "m"
    assert [op.output for op in found.ops if isinstance(op, Quantize)] == ["q", "yq"]


def test_a_dq_that_a_float_reads_too_stands_by_itself() -> None:
    found = program(
        f"{WEIGHT} m = MatMul (d, wd) e = Exp (d) {TAIL}", "float[2,2] x) => (float[2,2] y, float e"
    )
    assert [(op.output, op.nodes) for op in found.ops if isinstance(op, Dequantize)] == [
        ("d", ("d",)),
        ("y", ("y",)),
    ]
    assert "d" not in only(Layer, found).nodes


SAME = "yq = QuantizeLinear (m, s, z) y = DequantizeLinear (yq, s, z)"
IMAGE = "float[1,2,4,4] x) => (float y"


@pytest.mark.parametrize(
    ("body", "kind"),
    [
        (f"m = MaxPool <kernel_shape=[2,2]> (d) {SAME}", MaxPool),
        (f"m = AveragePool <kernel_shape=[2,2]> (d) {TAIL}", AveragePool),
        (f"n = GlobalAveragePool (d) m = Relu (n) {TAIL}", AveragePool),
        (f"m = Reshape (d, shape) {SAME}", Move),
        (f"m = Transpose <perm=[0,2,3,1]> (d) {SAME}", Move),
        (f"m = Concat <axis=1> (d, d) {TAIL}", Concat),
        (f"m = MatMul (d, d) {TAIL}", Product),
        (f"m = Relu (d) {TAIL}", Sum),
        (f'wd = DequantizeLinear (wc, sone) m = Conv <auto_pad="SAME_LOWER"> (d, wd) {TAIL}', Layer),
    ],
)
def test_units(body: str, kind: type[Op]) -> None:
    found = program(body, IMAGE)
    assert not found.left and only(kind, found).output == "yq"


KC = "kd = DequantizeLinear (k, s)"


@pytest.mark.parametrize(
    ("body", "add", "low", "high"),
    [
        (f"{KC} m = Add (d, kd) {SAME}", [[[5]], [[-7]]], -3, 252),
        (f"{KC} n = Add (kd, d) m = Relu (n) {SAME}", [[[5]], [[-7]]], 0, 252),
        (f"{KC} m = Max (d, kd) {SAME}", None, [[[5]], [[-3]]], 252),
        (f"{KC} m = Min (d, kd) {SAME}", None, -3, [[[5]], [[-3]]]),
        (f"{KC} n = Max (d, kd) m = Clip (n, low, high) {SAME}", None, [[[5]], [[-2]]], 12),
        (f"{KC} n = Max (d, low) m = Min (n, kd) {SAME}", None, [[[-2]], [[-3]]], [[[5]], [[-3]]]),
        (f"m = Max (d, low) {SAME}", None, -2, 252),  # bounds may be float
    ],
)
def test_channelwise(body: str, add: object, low: object, high: object) -> None:
    found = program(body, IMAGE)
    op = only(Channelwise, found)
    assert isinstance(op, Channelwise) and not found.left and (op.inputs, op.output) == (("q",), "yq")
    assert (None if op.add is None else op.add.tolist()) == add
    assert [op.low.tolist(), op.high.tolist()] == [
        np.broadcast_to(v, np.shape(k)).tolist() for v, k in ((low, op.low), (high, op.high))
    ]
    assert op.low.dtype == op.high.dtype == np.int32
    assert {type(o).__name__ for o in found.ops} == {"Quantize", "Channelwise", "Dequantize"}


def test_a_move_keeps_constants_and_names_of_its_parameters() -> None:
    move = only(Move, program(f"n = Shape (x) m = Reshape (d, n) {SAME}", IMAGE))
    assert isinstance(move, Move) and move.parameters == ("n",) and not move.constants
    move = only(Move, program(f"m = Reshape (d, shape) {SAME}", IMAGE))
    assert isinstance(move, Move) and move.constants["shape"].tolist() == [2, -1]


@pytest.mark.parametrize(
    ("body", "op", "reason"),
    [
        (f"m = MatMul (x, x) {TAIL}", "MatMul", "what it reads is float"),
        (f"m = MatMul (d, wf) {TAIL}", "MatMul", "its weight is float"),
        (f"m = MatMul (wf, d) {TAIL}", "MatMul", "its left operand is a constant"),
        (
            f"wd = DequantizeLinear <axis=0> (w, sw, zw) m = MatMul (d, wd) {TAIL}",
            "MatMul",
            "the scales of its",
        ),
        (f"{WEIGHT} m = Gemm <alpha=2.0> (d, wd) {TAIL}", "Gemm", "its alpha is not 1"),
        (f"{WEIGHT} m = Gemm (d, wd, wf) {TAIL}", "Gemm", "its bias differs from row to row"),
        (f"wd = DequantizeLinear (w, far) m = MatMul (d, wd) {TAIL}", "MatMul", "not within 2^-63"),
        (f"m = Add (d, bf) {TAIL}", "Add", "one of its operands is a constant"),
        (f"kd = DequantizeLinear (k, t) m = Add (d, kd) {SAME}", "Add", "one of its operands is a constant"),
        (f"kd = DequantizeLinear (k, s) m = Add (d, kd) {TAIL}", "Add", "have different codes"),
        (f"m = Max (d, low) {TAIL}", "Max", "its input and its output have different codes"),
        (f"m = Max (d, d) {TAIL}", "Max", "no integer form here but by a constant"),
        ("m = Min (d, low) y = Exp (m)", "Min", "its result is not quantized"),
        (f"m = Transpose (d) {TAIL}", "Transpose", "its input and its output have different codes"),
        ("m = Relu (d) y = Exp (m)", "Relu", "its result is not quantized"),
        (f"lo = Exp (low) m = Clip (d, lo) {TAIL}", "Clip", "its bounds are computed at run time"),
        (
            f"""e = QuantizeLinear <axis=1> (x, sw, zw) f = DequantizeLinear <axis=1> (e, sw, zw)
            m = Relu (f) {TAIL}""",
            "Relu",
            "the codes of 'f' have more than one scale",
        ),
        (f"m = Exp (d) {TAIL}", "Exp", "Exp has no integer form here"),
    ],
)
def test_reasons(body: str, op: str, reason: str) -> None:
    assert [reason in left.reason for left in program(body).left if left.op == op] == [True]


def long_product(length: int, scale: float, body: str) -> IntegerProgram:
    text = f"""<ir_version: 10, opset_import: ["" : 21]> g (uint8[1,{length}] q, uint8[1,1] r) => (float y)
        <float s = {{{scale}}}> {{
        d = DequantizeLinear (q, s) e = DequantizeLinear (r, s) wd = DequantizeLinear (w, s) {body} }}"""
    proto = onnx.parser.parse_model(text)
    proto.graph.initializer.append(onnx.numpy_helper.from_array(np.full((length, 1), 127, np.int8), "w"))
    return integer_program(Model(proto))


def test_an_accumulator_that_could_overflow() -> None:
    assert not long_product(66000, 0.5, "y = MatMul (d, wd)").left
    (left,) = [x for x in long_product(67000, 0.5, "y = MatMul (d, wd)").left if x.op == "MatMul"]
    assert left.reason == "its accumulator could overflow int32"


def test_a_product_of_known_length_that_could_overflow() -> None:
    text = """<ir_version: 10, opset_import: ["" : 21]> g (uint8[1,L] q, uint8[L,1] r) => (float[1,1] y)
        <float s = {0.5}> { d = DequantizeLinear (q, s) e = DequantizeLinear (r, s) y = MatMul (d, e) }"""
    fits, overflows = (
        integer_program(Model(onnx.parser.parse_model(text.replace("L]", f"{n}]").replace("[L", f"[{n}"))))
        for n in ("33025", "33026")
    )
    assert isinstance(only(Product, fits), Product) and not fits.left
    assert [(x.op, x.reason) for x in overflows.left] == [("MatMul", "its accumulator could overflow int32")]


def test_an_accumulator_whose_product_is_not_exact_in_float64() -> None:
    body = "n = MatMul (d, wd) m = Add (n, e) yq = QuantizeLinear (m, s) y = DequantizeLinear (yq, s)"
    assert not long_product(20000, 0.5, body).left and not long_product(10000, 0.3, body).left
    (left,) = long_product(20000, 0.3, body).left
    assert left.reason == "the accumulator of a layer that it adds could pass 2^29"


def test_rounding_of_the_metadata() -> None:
    model = Model(
        onnx.parser.parse_model(
            '<ir_version: 10, opset_import: ["" : 21]> g (float x) => (float y) { y = Exp (x) }'
        )
    )
    assert model_rounding(model) == "even"
    model.set_metadata("optc.rounding", "half_up")
    assert model_rounding(model) == "half_up"
    model.set_metadata("optc.rounding", "odd")
    with pytest.raises(InputError, match="its rounding 'odd' is unknown; it can be even or half_up"):
        integer_program(model)
