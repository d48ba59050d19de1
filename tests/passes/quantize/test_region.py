"""What becomes integer: units, coded values, shared codes, and the reasons for the rest."""

import onnx
import pytest

from optc.models.model import Model
from optc.passes.quantize.groups import code_ranges, sources
from optc.passes.quantize.region import Region, find_region

HEAD = '<ir_version: 10, opset_import: ["" : 21]>'


def region_of(text: str, accumulators: bool = False) -> Region:
    proto = onnx.shape_inference.infer_shapes(onnx.parser.parse_model(f"{HEAD} {text}"), strict_mode=True)
    onnx.checker.check_model(proto)
    return find_region(Model(proto), accumulators)


def shown(region: Region) -> tuple[list[list[str]], list[str]]:
    return [[n.op for n in u.nodes] for u in region.units], [t.name for t in region.coded]


def reasons(region: Region) -> list[str]:
    return [f"{node.op}: {reason}" for node, reason in region.left]


def ranges(region: Region, unsigned: bool = True, **seen: tuple[float, float]) -> dict:
    watched = sources(region)
    assert {t.name for t in watched} == set(seen)
    found = code_ranges(region, {id(t): seen[t.name] for t in watched}, unsigned)
    return {t.name: found[id(t)] for t in region.coded}


W = "float[4,4,1,1] w = {1,0,0,0, 0,1,0,0, 0,0,1,0, 0,0,0,1}"
M = "float[4,4] m = {1,0,0,0, 0,1,0,0, 0,0,1,0, 0,0,0,1}"


def test_relu_belongs_to_its_layer() -> None:
    units, coded = shown(
        region_of(f"g (float[N,4,8,8] x) => (float[N,4,8,8] y) <{W}> {{ c = Conv (x, w) y = Relu (c) }}")
    )
    assert units == [["Conv", "Relu"]] and coded == ["x", "y"]


def test_relu_beside_another_reader_has_a_code_of_its_own() -> None:
    region = region_of(
        f"g (float[N,4,8,8] x) => (float[N,4,8,8] y, float[N,4,8,8] c) <{W}> {{c = Conv (x, w) y = Relu (c)}}"
    )
    assert shown(region) == ([["Conv"], ["Relu"]], ["x", "c", "y"])


def test_pools_and_moves_share_codes_and_averages_do_not() -> None:
    region = region_of(
        f"""g (float[N,4,8,8] x) => (float[N,4] y) <{W}> {{
        p = MaxPool <kernel_shape=[2,2]> (x)
        c = Conv (p, w)
        a = GlobalAveragePool (c)
        y = Flatten (a) }}"""
    )
    assert shown(region) == ([["MaxPool"], ["Conv"], ["GlobalAveragePool"], ["Flatten"]], list("xpcay"))
    assert ranges(region, x=(0, 1), c=(-2, 3), a=(-1, 1)) == {
        "x": (0, 1),
        "p": (0, 1),
        "c": (-2, 3),
        "a": (-1, 1),
        "y": (-1, 1),
    }
    assert region.left == []


CONCAT = f"""g (float[N,4,8,8] x) => (float[N,4,8,8] y) <{W}, float[4,8,1,1] v = {{{",".join("1" * 32)}}}> {{
    a = Conv (x, w)  b = Conv (x, w)  c = Concat <axis=1> (a, b)  m = MaxPool <kernel_shape=[1,1]> (a)
    y = Conv (c, v)  z = Concat <axis=1> (m, y) }}""".replace("float[N,4,8,8] y)", "float[N,8,8,8] z)")


def test_operands_of_a_concat_share_one_code() -> None:
    found = ranges(region_of(CONCAT), x=(0, 1), a=(-1, 2), b=(-3, 1), y=(-5, 1))
    assert found == {"x": (0, 1)} | dict.fromkeys("abcmyz", (-5, 2))


def test_operands_keep_their_codes_where_only_some_can_be_negative() -> None:
    seen = {"x": (0.0, 1.0), "a": (0.0, 2.0), "b": (0.0, 3.0), "y": (-1.0, 4.0)}
    found = ranges(region_of(CONCAT), **seen)
    assert found == {"x": (0, 1), "y": (-1, 4), "z": (-1, 4)} | dict.fromkeys("abcm", (0, 3))
    assert ranges(region_of(CONCAT), unsigned=False, **seen) == {"x": (0, 1)} | dict.fromkeys(
        "abcmyz", (-1, 4)
    )


RESIDUAL = f"""g (float[N,4,8,8] x) => (float[N,4,8,8] y) <{W}> {{
    a = Conv (x, w)  ra = Relu (a)  b = Conv (ra, w)  s = Add (b, ra)  y = Relu (s) }}"""


def test_residual_add() -> None:
    units = [["Conv", "Relu"], ["Conv"], ["Add", "Relu"]]
    assert shown(region_of(RESIDUAL)) == (units, ["x", "ra", "b", "y"])
    assert shown(region_of(RESIDUAL, accumulators=True)) == (units, ["x", "ra", "y"])


def test_matmul_takes_its_bias_and_stays_float_for_float_readers() -> None:
    text = f"""g (float[N,4] x) => (float[N,4] y) <{M}, float[4] b = {{1,2,3,4}}> {{
        h = MatMul (x, m)  hb = Add (b, h)  r = Relu (hb)
        o = MatMul (r, m)  y = Softmax (o) }}"""
    region = region_of(text)
    assert shown(region) == ([["MatMul", "Add", "Relu"], ["MatMul"]], ["x", "r"])
    assert reasons(region) == ["Softmax: Softmax has no integer form here"]


def test_graph_output_of_a_gemm_is_coded() -> None:
    region = region_of(f"g (float[N,4] x) => (float[N,4] y) <{M}> {{ y = Gemm (x, m) }}")
    assert shown(region) == ([["Gemm"]], ["x", "y"])


def test_chain_of_moves_between_products_joins_but_not_one_to_a_float_node() -> None:
    text = f"""g (float[4,4] x) => (float[4,4] y, float[4,4] z) <{M}, int64[2] s = {{4,4}}> {{
        a = MatMul (x, m)  r = Reshape (a, s)  t = Transpose (r)  y = MatMul (a, t)
        b = MatMul (x, m)  u = Reshape (b, s)  v = Transpose (u)  z = Sigmoid (v) }}"""
    region = region_of(text)
    assert shown(region)[0] == [["MatMul"], ["Reshape"], ["Transpose"], ["MatMul"], ["MatMul"]]
    assert shown(region)[1] == ["x", "a", "r", "t", "y"]
    assert reasons(region) == [
        "Sigmoid: Sigmoid has no integer form here",
        "Reshape: no integer node reads it",
        "Transpose: no integer node reads it",
    ]


def test_float_operand_joins_where_an_integer_node_reads_the_sum() -> None:
    text = f"""g (float[N,4,8,8] x) => (float[N,4,8,8] y) <{W}> {{
        a = Conv (x, w)  f = Sigmoid (x)  s = Add (a, f)  {{}} }}"""
    assert shown(region_of(text.replace("{}", "y = Conv (s, w)")))[1] == ["x", "a", "f", "s", "y"]
    region = region_of(text.replace("{}", "y = Sigmoid (s)"))
    assert shown(region)[1] == ["x", "a"]
    assert "Add: no integer node reads it" in reasons(region)


def test_relu_in_a_subgraph_is_not_taken_in() -> None:
    region = region_of(
        f"""g (float[2,4,8,8] x) => (float[2,4,8,8] y) <{W}, bool t = {{1}}> {{
        c = Conv (x, w)
        y = If (t) <then_branch = a () => (float[2,4,8,8] p) {{ p = Relu (c) }},
                    else_branch = b () => (float[2,4,8,8] q) {{ q = Neg (x) }}> }}"""
    )
    assert shown(region) == ([["Conv"]], ["x", "c"])


def test_nothing_without_a_layer() -> None:
    text = "g (float[N,4,8,8] x) => (float[N,4,4,4] y) { p = MaxPool <kernel_shape=[5,5]> (x) y = Relu (p) }"
    assert shown(region_of(text)) == ([], [])


def test_shape_arithmetic_is_left_alone() -> None:
    text = f"""g (float[N,4] x) => (float[N,4] y) <{M}, int64[1] i = {{0}}> {{
        a = MatMul (x, m)  s = Shape (a)  n = Concat <axis=0> (s, i)  k = Slice (n, i, s2)
        y = MatMul (a, m) }}""".replace(", s2)", ", e)").replace("{0}", "{0}, int64[1] e = {2}")
    region = region_of(text)
    assert shown(region)[0] == [["MatMul"], ["MatMul"]] and region.left == []


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        (
            f"""(float[N,4,8,8] x) => (float[N,4,8,8] y) <{W}, float[4] s = {{1,1,1,1}}> {{
            c = Conv (x, w) y = BatchNormalization (c, s, s, s, s) }}""",
            "BatchNormalization: it is not folded into a layer; run canonicalize first",
        ),
        (
            f"(float[N,4,8,8] x, float[4,4,1,1] w) => (float[N,4,8,8] y) <{W}> {{ y = Conv (x, w) }}",
            "Conv: its weight is also a graph input, which a caller may override",
        ),
        (
            "(float[N,4,8,8] x, float[4,4,1,1] w) => (float[N,4,8,8] y) { y = Conv (x, w) }",
            "Conv: its weight is computed at run time (run canonicalize first if it is a constant)",
        ),
        (
            f"(float[N,4,8,8] x, float[4] b) => (float[N,4,8,8] y) <{W}> {{ y = Conv (x, w, b) }}",
            "Conv: its bias is not a float32 constant",
        ),
        (
            f"(float[N,4,8,8] x) => (float[N,8,8,8] y) <{W}> {{ y = ConvTranspose <group=2> (x, w) }}",
            "ConvTranspose: it is grouped, so that its weight has no axis of output channels",
        ),
        (
            f"(float[N,4] x) => (float[N,4] y) <{M}> {{ y = Gemm <alpha=2.0> (x, m) }}",
            "Gemm: its alpha is not 1 or its input is transposed",
        ),
        (
            f"(float[4,4] x) => (float[4,4] y) <{M}> {{ y = Gemm (x, m, m) }}",
            "Gemm: its bias differs from row to row",
        ),
        (
            f"(float[4,N] x) => (float[4,N] y) <{M}> {{ y = MatMul (m, x) }}",
            "MatMul: its left operand is a constant",
        ),
        (
            f"(float[N,4] x) => (float[N,4] y) <{M}> {{ n = Neg (m) y = MatMul (x, n) }}",
            "MatMul: its weight is computed at run time (run canonicalize first if it is a constant)",
        ),
        (
            "(double[N,4] x) => (double[N,4] y) <double[4,4] m = {1,0,0,0, 0,1,0,0, 0,0,1,0, 0,0,0,1}> {"
            "y = MatMul (x, m) }",
            "MatMul: its weight is not float32",
        ),
        (
            f"(float[N,4] x) => (float[N,4] y) <{M}> {{ a = Gemm (x, m) y = Add (a, m) }}",
            "Add: one of its operands is a constant",
        ),
        (
            f"(float[N,4] x) => (float[N,4] y) <{M}, float v = {{2}}> {{ a = Gemm (x, m) y = Add (a, v) }}",
            "Add: no integer node reads it",
        ),
        (
            "(float[N,4] x) => (float[N,4] y) { a = Sin (x) y = Max (x, a) }",
            "Max: Max has no integer form here but by a constant a channel",
        ),
        (
            f"""(float[N,4] x) => (float[N,4] y) <{M}, float s = {{1}}, uint8 z = {{0}}> {{
            q = QuantizeLinear (x, s, z) d = DequantizeLinear (q, s, z) y = MatMul (d, m) }}""",
            "MatMul: its input is quantized already",
        ),
        (
            "(double[4,4] x) => (double[4,4] y) { y = MatMul (x, x) }",
            "MatMul: its operands are not known to be float32 (run canonicalize first: it infers types)",
        ),
    ],
)
def test_reasons(text: str, reason: str) -> None:
    assert reason in reasons(region_of(f"g {text}"))
