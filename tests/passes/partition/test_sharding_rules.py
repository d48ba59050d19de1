from __future__ import annotations

from typing import Any

import numpy as np
import onnx
import pytest
from onnx import numpy_helper
from sharded import check_sharded, random_feeds

from optc.models.model import Model
from optc.passes.partition.sharding.layout import Layout, Sharding, Split
from optc.passes.partition.sharding.layouts import layouts
from optc.passes.partition.sharding.op import Facts, Op
from optc.passes.partition.sharding.rules_shape import view_axes


def parse(text: str, opset: int = 21, **arrays: Any) -> Model:
    proto = onnx.parser.parse_model(f'<ir_version: 10, opset_import: ["" : {opset}]> g {text}')
    rng = np.random.default_rng(0)
    for name, value in arrays.items():
        array = rng.standard_normal(value).astype(np.float32) if isinstance(value, tuple) else value
        proto.graph.initializer.append(numpy_helper.from_array(np.asarray(array), name))
    return Model(proto)


def i64(*values: int) -> Any:
    return np.array(values, np.int64)


IMAGE = "(float[1,6,13,11] x) => (y)"
BN = {"s": (6,), "b": (6,), "m": (6,), "v": np.linspace(1, 2, 6, dtype=np.float32)}

# Text, constants, and the axes over which 2 devices can split the node: those of what it writes, and, after
# "+", those of its first input that terms are summed over.
CASES: dict[str, tuple[str, dict[str, Any], str]] = {
    "MatMul": ("(float[S,6] x) => (y) { y = MatMul(x, w) }", {"w": (6, 7)}, "1+1"),
    "MatMul, stacks": ("(float[3,5,4] x, float[2,3,4,6] z) => (y) { y = MatMul(x, z) }", {}, "0123+2"),
    "MatMul, stack of one": ("(float[1,5,4] x, float[7,4,6] z) => (y) { y = MatMul(x, z) }", {}, "012+2"),
    "MatMul, vector": ("(float[6] x, float[6,5] z) => (y) { y = MatMul(x, z) }", {}, "0+0"),
    "MatMul, to a vector": ("(float[8,6] x) => (y) { y = MatMul(x, w) }", {"w": (6,)}, "0+1"),
    "Gemm": ("(float[N,6] x) => (y) { y = Gemm(x, w, b) }", {"w": (6, 7), "b": (7,)}, "1+1"),
    "Gemm, transposed": (
        "(float[6,4] x) => (y) { y = Gemm<transA = 1, transB = 1, alpha = 2., beta = 3.>(x, w, b) }",
        {"w": (7, 6), "b": (4, 1)},
        "01+0",
    ),
    "Gemm, bias of a caller": (
        "(float[N,6] x, float[7] b) => (y) { y = Gemm(x, w, b) }",
        {"w": (6, 7)},
        "1",
    ),
    "Conv": (
        f"{IMAGE} {{ y = Conv<kernel_shape = [3,3], pads = [1,1,1,1]>(x, w, b) }}",
        {"w": (8, 6, 3, 3), "b": (8,)},
        "123+1",
    ),
    "Conv, strides and dilations": (
        f"{IMAGE} {{ y = Conv<strides = [2,1], dilations = [2,3], pads = [2,0,1,2]>(x, w) }}",
        {"w": (5, 6, 3, 2)},
        "123+1",
    ),
    "Conv, SAME_UPPER": (
        f'{IMAGE} {{ y = Conv<auto_pad = "SAME_UPPER", strides = [2,2]>(x, w) }}',
        {"w": (8, 6, 4, 3)},
        "123+1",
    ),
    "Conv, SAME_LOWER": (
        f'{IMAGE} {{ y = Conv<auto_pad = "SAME_LOWER", strides = [2,3]>(x, w) }}',
        {"w": (8, 6, 4, 4)},
        "123+1",
    ),
    "Conv, depthwise": (
        f"{IMAGE} {{ y = Conv<group = 6, pads = [1,1,1,1]>(x, w, b) }}",
        {"w": (12, 1, 3, 3), "b": (12,)},
        "123",
    ),
    "Conv, groups": (f"{IMAGE} {{ y = Conv<group = 3>(x, w) }}", {"w": (9, 2, 1, 1)}, "123"),
    "Conv, stride over a gap": (
        f"{IMAGE} {{ y = Conv<strides = [3,2]>(x, w) }}",
        {"w": (8, 6, 1, 1)},
        "123+1",
    ),
    "Conv, free width": (
        "(float[N,6,13,W] x) => (y) { y = Conv<pads = [1,1,1,1]>(x, w) }",
        {"w": (8, 6, 3, 3)},
        "12+1",
    ),
    "Conv, one dimension": (
        "(float[1,6,29] x) => (y) { y = Conv<pads = [2,2]>(x, w) }",
        {"w": (8, 6, 5)},
        "12+1",
    ),
    "Conv, wide padding": (f"{IMAGE} {{ y = Conv<pads = [4,0,4,0]>(x, w) }}", {"w": (8, 6, 1, 1)}, "123+1"),
    "ConvTranspose": (
        f"{IMAGE} {{ y = ConvTranspose<strides = [2,2]>(x, w, b) }}",
        {"w": (6, 8, 2, 2), "b": (8,)},
        "123+1",
    ),
    "ConvTranspose, overlapping": (
        f"{IMAGE} {{ y = ConvTranspose<strides = [2,3], pads = [1,0,1,2], output_padding = [1,0]>(x, w) }}",
        {"w": (6, 8, 4, 5)},
        "123+1",
    ),
    "ConvTranspose, with gaps": (
        f"{IMAGE} {{ y = ConvTranspose<strides = [3,3], dilations = [1,2]>(x, w) }}",
        {"w": (6, 8, 2, 2)},
        "123+1",
    ),
    "ConvTranspose, groups": (
        f"{IMAGE} {{ y = ConvTranspose<group = 6>(x, w) }}",
        {"w": (6, 2, 3, 3)},
        "123",
    ),
    "MaxPool": (
        f"{IMAGE} {{ y = MaxPool<kernel_shape = [3,3], strides = [2,2], pads = [1,1,1,1]>(x) }}",
        {},
        "123",
    ),
    "MaxPool, ceil": (
        f"{IMAGE} {{ y = MaxPool<kernel_shape = [3,2], strides = [2,2], ceil_mode = 1>(x) }}",
        {},
        "123",
    ),
    "MaxPool, ceil and free": (
        "(float[N,6,13,W] x) => (y) { y = MaxPool<kernel_shape = [3,2], strides = [2,2], ceil_mode = 1>(x) }",
        {},
        "12",
    ),
    "MaxPool, ceil and dilated": (
        f"{IMAGE} {{ y = MaxPool<kernel_shape = [2,2], strides = [4,1], dilations = [3,1], ceil_mode = 1>(x)"
        " }",
        {},
        "13",
    ),
    "AveragePool": (
        f"{IMAGE} {{ y = AveragePool<kernel_shape = [3,3], strides = [2,1], pads = [1,1,1,1]>(x) }}",
        {},
        "123",
    ),
    "AveragePool, counting pads": (
        f"{IMAGE} {{ y = AveragePool<kernel_shape = [3,3], count_include_pad = 1, pads = [1,1,1,1]>(x) }}",
        {},
        "123",
    ),
    "AveragePool, counting pads and ceil": (
        f"{IMAGE} {{ y = AveragePool<kernel_shape = [2,2], strides = [2,2], ceil_mode = 1,"
        " count_include_pad = 1, pads = [0,1,0,0]>(x) }",
        {},
        "1",
    ),
    "AveragePool, SAME": (
        f'{IMAGE} {{ y = AveragePool<kernel_shape = [3,2], strides = [2,2], auto_pad = "SAME_LOWER">(x) }}',
        {},
        "123",
    ),
    "GlobalAveragePool": (f"{IMAGE} {{ y = GlobalAveragePool(x) }}", {}, "1"),
    "Add, broadcasting": ("(float[4,1,6] x, float[5,6] z) => (y) { y = Add(x, z) }", {}, "012"),
    "Add, a Constant node": (
        "(float[N,4] x) => (y) { c = Constant<value = float[4] {1., 2., 3., 4.}>() y = Add(x, c) }",
        {},
        "1",
    ),
    "Mul, a Constant of floats": (
        "(float[N,2] x) => (y) { c = Constant<value_floats = [2., 3.]>() y = Mul(x, c) }",
        {},
        "1",
    ),
    "Where": ("(bool[4,1] q, float[5] x) => (y) { y = Where(q, x, z) }", {"z": (4, 5)}, "01"),
    "Clip": ("(float[N,6] x) => (y) { y = Clip(x, a, b) }", {"a": np.float32(0), "b": np.float32(1)}, "1"),
    "Clip, above": ("(float[N,6] x) => (y) { y = Clip(x, , b) }", {"b": np.float32(1)}, "1"),
    "PRelu": (f"{IMAGE} {{ y = PRelu(x, s) }}", {"s": (6, 1, 1)}, "123"),
    "Cast": ("(float[N,6] x) => (y) { y = Cast<to = 10>(x) }", {}, "1"),
    "Dropout": ("(float[N,6] x) => (y) { y = Dropout(x, r) }", {"r": np.float32(0.5)}, "1"),
    "Expand": ("(float[6,1] x) => (y) { y = Expand(x, s) }", {"s": i64(4, 6, 5)}, "012"),
    "Softmax": ("(float[4,5,6] x) => (y) { y = Softmax<axis = 1>(x) }", {}, "02"),
    "LayerNormalization": (
        "(float[4,5,6] x) => (y) { y = LayerNormalization(x, s, b) }",
        {"s": (6,), "b": (6,)},
        "01",
    ),
    "BatchNormalization": (f"{IMAGE} {{ y = BatchNormalization(x, s, b, m, v) }}", BN, "123"),
    "InstanceNormalization": (
        f"{IMAGE} {{ y = InstanceNormalization(x, s, b) }}",
        {"s": (6,), "b": (6,)},
        "1",
    ),
    "LRN": (f"{IMAGE} {{ y = LRN<size = 3>(x) }}", {}, "23"),
    "QuantizeLinear": (
        "(float[4,6] x) => (y) { y = QuantizeLinear(x, s, z) }",
        {"s": np.float32(0.1), "z": np.uint8(9)},
        "01",
    ),
    "DequantizeLinear, by axis": (
        "(int8[4,6] x) => (y) { y = DequantizeLinear<axis = 0>(x, s, z) }",
        {"s": (4,), "z": np.arange(4, dtype=np.int8)},
        "01",
    ),
    "ReduceMean": ("(float[4,5,6] x) => (y) { y = ReduceMean<keepdims = 0>(x, a) }", {"a": i64(1)}, "01"),
    "ReduceSum": ("(float[4,5,6] x) => (y) { y = ReduceSum(x, a) }", {"a": i64(-1)}, "01+2"),
    "ReduceMax, all": ("(float[4,5,6] x) => (y) { y = ReduceMax(x) }", {}, ""),
    "ReduceSum, none": ("(float[4,5] x) => (y) { y = ReduceSum<noop_with_empty_axes = 1>(x) }", {}, "01"),
    "ArgMax": ("(float[4,5,6] x) => (y) { y = ArgMax<axis = 1, keepdims = 0>(x) }", {}, "01"),
    "Concat": ("(float[4,5] x, float[4,6] z) => (y) { y = Concat<axis = 1>(x, z, c) }", {"c": (4, 2)}, "0"),
    "Split": ("(float[4,6] x) => (y, z) { y, z = Split<axis = 1, num_outputs = 2>(x) }", {}, "0"),
    "Slice": (
        "(float[4,6,5] x) => (y) { y = Slice(x, a, b, c) }",
        {"a": i64(1), "b": i64(2**40), "c": i64(-2)},
        "02",
    ),
    "Slice, without axes": ("(float[4,6] x) => (y) { y = Slice(x, a, b) }", {"a": i64(1), "b": i64(3)}, "1"),
    "Pad": ("(float[4,6,5] x) => (y) { y = Pad(x, p) }", {"p": i64(0, 1, 0, 0, 0, 0)}, "02"),
    "Pad, axes": ("(float[4,6] x) => (y) { y = Pad(x, p, , a) }", {"p": i64(1, 2), "a": i64(-1)}, "0"),
    "Tile": ("(float[4,6] x) => (y) { y = Tile(x, r) }", {"r": i64(2, 1)}, "1"),
    "Transpose": ("(float[4,5,6] x) => (y) { y = Transpose<perm = [2,0,1]>(x) }", {}, "012"),
    "Transpose, reversing": ("(float[4,5,6] x) => (y) { y = Transpose(x) }", {}, "012"),
    "Reshape to heads": ("(float[B,S,24] x) => (y) { y = Reshape(x, s) }", {"s": i64(0, 0, 6, 4)}, "2"),
    "Reshape from heads": ("(float[B,S,6,4] x) => (y) { y = Reshape(x, s) }", {"s": i64(0, 0, -1)}, "2"),
    "Reshape of groups": ("(float[4,6,5] x) => (y) { y = Reshape(x, s) }", {"s": i64(2, 12, 5, 1)}, "02"),
    "Reshape, batch and rows": ("(float[B,S,24] x) => (y) { y = Reshape(x, s) }", {"s": i64(-1, 24)}, "1"),
    "Reshape, zero is zero": (
        "(float[4,6] x) => (y) { y = Reshape<allowzero = 1>(x, s) }",
        {"s": i64(4, 6)},
        "",
    ),
    "Flatten": ("(float[N,6,2,2] x) => (y) { y = Flatten(x) }", {}, "1"),
    "Squeeze": ("(float[4,1,6] x) => (y) { y = Squeeze(x, a) }", {"a": i64(1)}, "01"),
    "Squeeze, any": ("(float[4,1,6] x) => (y) { y = Squeeze(x) }", {}, ""),
    "Unsqueeze": ("(float[4,6] x) => (y) { y = Unsqueeze(x, a) }", {"a": i64(0, 2)}, "13"),
    "Gather, by columns": ("(int64[B,5] x) => (y) { y = Gather(t, x) }", {"t": (4, 6)}, "12"),
    "Gather, by axis 1": (
        "(float[4,5,6] x) => (y) { y = Gather<axis = 1>(x, i) }",
        {"i": i64(0, 3, 1)},
        "012",
    ),
    "Resize": (
        f'{IMAGE} {{ y = Resize<mode = "linear">(x, , s) }}',
        {"s": np.array([1, 1, 2, 2], np.float32)},
        "1",
    ),
    "Resize to sizes": (f"{IMAGE} {{ y = Resize(x, , , s) }}", {"s": i64(1, 6, 26, 5)}, "1"),
    "CumSum": ("(float[4,6] x) => (y) { y = CumSum(x, a) }", {"a": np.int64(0)}, ""),
}


def op_of(model: Model) -> Op:
    """The last node of a model, as the rules see it."""
    return Facts.of(model).op(model.view.nodes[-1])


def axes(layout: Layout) -> str:
    """The axis that is kept, or "+" and the one that is summed over."""
    spec = layout.inputs[0] if layout.reduce else layout.outputs[0]
    assert spec is not None
    return f"{'+' if layout.reduce else ''}{spec.axis}"


@pytest.mark.parametrize("name", CASES)
def test_each_operator_has_the_layouts_of_its_indices(name: str) -> None:
    text, arrays, expected = CASES[name]
    found = layouts(op_of(parse(text, **arrays)), 2)
    assert found[0] == Layout((None,) * len(found[0].inputs), (None,) * len(found[0].outputs))
    kept = {axes(layout) for layout in found[1:] if not layout.reduce}
    summed = {axes(layout) for layout in found[1:] if layout.reduce}
    assert "".join(sorted(kept)) + "".join(sorted(summed)) == expected


@pytest.mark.parametrize("count", [2, 3, 5, 8])
@pytest.mark.parametrize("name", CASES)
def test_every_layout_of_a_node_gives_what_the_node_gives(name: str, count: int) -> None:
    text, arrays, _ = CASES[name]
    model = parse(text, **arrays)
    for layout in layouts(op_of(model), count)[1:]:
        sharding = Sharding(count, {model.view.nodes[-1].outputs[0].name: layout})
        check_sharded(model, sharding, random_feeds(model, S=3, W=9))


def test_a_constant_that_callers_may_override_is_a_value() -> None:
    model = parse("(float[4,6] x, float[5] b) => (y) { y = Gemm(x, w, b) }", w=(6, 5), b=(5,))
    assert [axes(layout) for layout in layouts(op_of(model), 2)[1:]] == ["0", "1"]
    facts = Facts.of(model)
    assert "w" in facts.constants and "b" not in facts.constants


def test_old_normalization_of_each_element_is_not_cut() -> None:
    model = parse(f"{IMAGE} {{ y = BatchNormalization<spatial = 0>(x, s, b, m, v) }}", 7, **BN)
    assert layouts(op_of(model), 2) == [Layout((None,) * 5, (None,))]


def test_terms_of_unknown_size_are_not_summed() -> None:
    model = parse("(float[S,6] x) => (y) { y = Gemm(x, w) }", w=(6, 7))
    facts = Facts.of(model)
    unknown = Facts({n: s for n, s in facts.shapes.items() if n != "y"}, facts.constants, facts.opset)
    assert len(layouts(unknown.op(model.view.nodes[-1]), 2)) == 1


def test_a_pool_is_not_cut_so_that_it_gets_more_padding_than_its_size() -> None:
    op = op_of(parse(*CASES["MaxPool, ceil and dilated"][:1]))
    assert {axes(layout) for layout in layouts(op, 2)[1:]} == {"1", "3"}


def test_groups_of_axes_match_from_both_ends() -> None:
    assert view_axes((4, 1, 6), (4, 6)) == [(0, 0), (2, 1)]
    assert view_axes((4, 6, None), (4, 1, 3, 2, None)) == [(0, 0), (1, 2), (2, 4)]
    assert view_axes((None, "S", 6), (None, 6)) == [(0, 0), (2, 1)]
    assert view_axes(("B", 6, 4), (6, "B", 4)) == [(0, 0), (2, 2)]


def test_softmax_before_opset_13_sums_over_all_that_follows() -> None:
    model = parse("(float[4,5,6] x) => (y) { y = Softmax<axis = 1>(x) }", 12)
    assert [axes(layout) for layout in layouts(op_of(model), 2)[1:]] == ["0"]


def test_an_axis_of_fewer_pieces_than_devices_is_not_cut() -> None:
    op = op_of(parse("(float[B,S,24] x) => (y) { y = Reshape(x, s) }", s=i64(0, 0, 6, 4)))
    assert len(layouts(op, 6)) == 2 and len(layouts(op, 7)) == 1


def test_ranges_are_as_even_as_the_pieces_allow() -> None:
    op = op_of(parse("(float[B,S,24] x) => (y) { y = Reshape(x, s) }", s=i64(0, 0, 6, 4)))
    (_, layout) = layouts(op, 4)
    assert layout.outputs[0] == Split(2, ((0, 1), (1, 3), (3, 4), (4, 6)))
    assert layout.inputs[0] == Split(2, ((0, 4), (4, 12), (12, 16), (16, 24)))
