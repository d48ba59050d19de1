"""merge-views, merge-pairs, merge-slices, fuse-gemm, fold-pads."""

from __future__ import annotations

from typing import Any

import onnx
import pytest

from optc.models.model import Model
from optc.passes.base import Context
from optc.passes.canonicalize.fold_pads import FoldPads
from optc.passes.canonicalize.fuse_gemm import FuseGemm
from optc.passes.canonicalize.merge_pairs import MergePairs
from optc.passes.canonicalize.merge_slices import MergeSlices
from optc.passes.canonicalize.merge_views import MergeViews
from optc.passes.canonicalize.remove_dead import RemoveDead

CONSTANTS = """int64[1] a0 = {0}, int64[1] a1 = {1}, int64[2] a01 = {0,1}, int64[2] flat = {2,12},
int64[2] odd = {4,6}, int64[3] whole = {2,3,4}"""


def same(check: Any, p: Any, before: str, after: str) -> onnx.ModelProto:
    """`before` becomes `after`, once what nobody reads is gone from both; constants are not compared."""
    result = check.run(p, before)
    assert check.changed
    left, wanted = Model(result), Model(check.parse(after))
    for model in (left, wanted):
        RemoveDead().run(model, Context())
    assert _nodes(left) == _nodes(wanted)
    return left.to_proto()


def _nodes(model: Model) -> str:
    proto = model.to_proto()
    del proto.graph.initializer[:], proto.graph.value_info[:]
    proto.graph.name = "g"
    for output in proto.graph.output:
        output.type.tensor_type.ClearField("shape")
    return str(onnx.printer.to_text(proto.graph))


def leaves(p: Any, text: str) -> None:
    proto = onnx.parser.parse_model('<ir_version: 10, opset_import: ["": 21]> ' + text)
    assert not p.run(Model(onnx.shape_inference.infer_shapes(proto, data_prop=True)), Context())


@pytest.mark.parametrize(
    ("chain", "after"),
    [
        ("b = Reshape(a, flat)  c = Reshape(b, whole)  y = Neg(c)", "y = Neg(a)"),
        ("b = Unsqueeze(a, a1)  c = Squeeze(b, a1)  y = Neg(c)", "y = Neg(a)"),
        ("b = Flatten(a)  c = Reshape(b, odd)  y = Neg(c)", "c = Reshape(a, odd)  y = Neg(c)"),
        (
            "b = Unsqueeze(a, a0)  c = Unsqueeze(b, a0)  y = Neg(c)",
            "c = Reshape(a, c_shape)  y = Neg(c)",
        ),
        (
            "b = Unsqueeze(a, a1)  c = Transpose<perm = [1,0,2,3]>(b)  y = Neg(c)",
            "c = Reshape(a, c_shape)  y = Neg(c)",
        ),
    ],
)
def test_merge_views(check: Any, chain: str, after: str) -> None:
    rank = 4 if "c_shape" in after else 2 if "odd" in after else 3
    dims = ",".join("pqrs"[:rank])
    head = f"g (float[2,3,4] x) => (float[{dims}] y) <{CONSTANTS}"
    shape = f"int64[{rank}] c_shape = {{{','.join('1' * rank)}}}"
    after = f"{head}, {shape}> {{ a = Relu(x)  {after} }}"
    same(check, MergeViews(), f"{head}> {{ a = Relu(x)  {chain} }}", after)


def test_merge_views_with_a_free_dimension(check: Any) -> None:
    before = f"""g (float[N,3,4] x) => (float[N,12] y) <{CONSTANTS}>
      {{ a = Relu(x)  b = Flatten(a)  c = Unsqueeze(b, a1)  d = Squeeze(c, a1)  y = Neg(d) }}"""
    after = """g (float[N,3,4] x) => (float[N,12] y) <int64[2] d_shape = {0,12}>
      { a = Relu(x)  d = Reshape(a, d_shape)  y = Neg(d) }"""
    result = same(check, MergeViews(), before, after)
    assert [onnx.numpy_helper.to_array(t).tolist() for t in result.graph.initializer] == [[0, 12]]


@pytest.mark.parametrize(
    "body",
    [
        "b = Transpose<perm = [1,0,2]>(a)  y = Reshape(b, whole)",
        "b = Reshape(a, flat)  c = Neg(b)  y = Reshape(c, whole)",
        "b = Reshape(a, flat)  c = Reshape(b, odd)  d = Neg(b)  e = MatMul(c, odd)  y = Add(d, e)",
    ],
)
def test_merge_views_leaves(body: str) -> None:
    leaves(MergeViews(), f"g (float[2,3,4] x) => (float[2,3,4] y) <{CONSTANTS}> {{ a = Relu(x)  {body} }}")


@pytest.mark.parametrize(
    ("shape", "chain"),
    [
        ("2,3,4", "b = Reshape(x, odd)  c = Reshape(b, copy)"),  # copies 4, not 2
        ("1,3", "b = Unsqueeze(x, i2)  c = Squeeze(b, i0)"),
    ],
)
def test_merge_views_keeps_shapes(check: Any, shape: str, chain: str) -> None:
    text = f"""g (float[{shape}] x) => (float[p,q,r] y) <int64[2] odd = {{4,6}}, int64[3] copy = {{0,3,2}},
      int64[1] i2 = {{2}}, int64[1] i0 = {{0}}> {{ {chain}  y = Neg(c) }}"""
    check.run(MergeViews(), text.replace("[p,q,r]", "[3,1]") if shape == "1,3" else text)


PAIRS = {
    "transposes": (
        "b = Transpose<perm = [1,2,0]>(a)  y = Transpose<perm = [1,2,0]>(b)",
        "b = Transpose<perm = [1,2,0]>(a)  y = Transpose<perm = [2,0,1]>(a)",
    ),
    "default transposes": (
        "b = Transpose(a)  y = Transpose(b)",
        "b = Transpose(a)  y = Transpose<perm = [0,1,2]>(a)",
    ),
    "a cast that loses nothing": (
        "b = Cast<to = 11>(a)  y = Cast<to = 10>(b)",
        "b = Cast<to = 11>(a)  y = Cast<to = 10>(a)",
    ),
    "relu of relu": ("b = Relu(a)  c = Relu(b)  y = Neg(c)", "b = Relu(a)  y = Neg(b)"),
    "neg of neg": ("b = Neg(a)  c = Neg(b)  y = Exp(c)", "y = Exp(a)"),
    "concat of concat": (
        "b = Concat<axis = 1>(x, a)  y = Concat<axis = 1>(a, b, x)",
        "b = Concat<axis = 1>(x, a)  y = Concat<axis = 1>(a, x, a, x)",
    ),
    "sum of two": ("y = Sum(x, a)", "y = Add(x, a)"),
    "reduce and unsqueeze": (
        "b = ReduceMean<keepdims = 0>(a, i)  y = Unsqueeze(b, i)",
        "y = ReduceMean<keepdims = 1>(a, i)",
    ),
    "reduce and squeeze": (
        "b = ReduceMax(a, i)  y = Squeeze(b, i)",
        "y = ReduceMax<keepdims = 0>(a, i)",
    ),
}


@pytest.mark.parametrize(("before", "after"), PAIRS.values(), ids=PAIRS.keys())
def test_merge_pairs(check: Any, before: str, after: str) -> None:
    rank = "p,q" if "Squeeze(" in before and "Un" not in before else "p,q,r"
    kind = "float16" if "to = 10" in before else "float"
    head = f"g (float[2,3,4] x) => ({kind}[{rank}] y) <int64[1] i = {{1}}>"
    same(check, MergePairs(), f"{head} {{ a = Abs(x)  {before} }}", f"{head} {{ a = Abs(x)  {after} }}")


@pytest.mark.parametrize(
    "body",
    [
        "b = Cast<to = 10>(x)  y = Cast<to = 1>(b)",  # rounds
        "b = Cast<to = 7>(x)  y = Cast<to = 1>(b)",  # truncates
        "b = Concat<axis = 0>(x, x)  c = Concat<axis = 1>(b, x4)  y = Neg(c)",
        "b = ReduceSum<keepdims = 0>(x3, i0)  y = Unsqueeze(b, i1)",
        "b = ReduceSum(x3, i0)  c = Squeeze(b, i0)  y = Add(b, c)",
        "b = Relu(x)  c = Abs(b)  y = Relu(c)",
        "y = Sum(x, x, x)",
    ],
)
def test_merge_pairs_leaves(check: Any, body: str) -> None:
    dims = "p,q,r" if "x3" in body else "p,q"
    leaves(
        MergePairs(),
        f"""g (float[2,3] x, float[4,3] x4, float[2,3,3] x3) => (float[{dims}] y)
        <int64[1] i0 = {{0}}, int64[1] i1 = {{1}}> {{ {body} }}""",
    )


def test_merge_slices(check: Any) -> None:
    constants = "int64[1] one = {1}, int64[1] end = {4}, int64[1] last = {-1}, int64[1] two = {2}"
    head = f"g (float[4,5,6] x) => (float[p,q,r] y) <{constants}"
    names = ("starts", "ends", "axes", "steps")
    merged = ", ".join(f"int64[2] y_{name} = {{1,1}}" for name in names)
    result = same(
        check,
        MergeSlices(),
        f"{head}> {{ a = Slice(x, one, end, one)  y = Slice(a, one, end, last, two) }}",
        f"{head}, {merged}> {{ y = Slice(x, y_starts, y_ends, y_axes, y_steps) }}",
    )
    values = {t.name: onnx.numpy_helper.to_array(t).tolist() for t in result.graph.initializer}
    assert [values[f"y_{name}"] for name in names] == [[1, 1], [4, 4], [1, 2], [1, 2]]


@pytest.mark.parametrize(
    "body",
    [
        "a = Slice(x, one, end, one)  y = Slice(a, one, end, one)",  # the same axis
        "a = Slice(x, k, end, one)  y = Slice(a, one, end, two)",
        "a = Slice(x, one, end, one)  b = Slice(a, one, end, two)  c = ReduceSum(a)  y = Add(b, c)",
    ],
)
def test_merge_slices_leaves(body: str) -> None:
    constants = "int64[1] one = {1}, int64[1] end = {4}, int64[1] two = {2}"
    leaves(MergeSlices(), f"g (float[4,5,6] x, int64[1] k) => (float[p,q,r] y) <{constants}> {{ {body} }}")


@pytest.mark.parametrize("addend", ["float[4] c = {1,2,3,4}", "float c = {3}", "float[3,1] c = {1,2,3}"])
@pytest.mark.parametrize("line", ["y = Add(m, c)", "y = Add(c, m)"])
def test_fuse_gemm(check: Any, addend: str, line: str) -> None:
    head = f"g (float[3,2] x, float[2,4] w) => (float[3,4] y) <{addend}>"
    check.rewrites(FuseGemm(), f"{head} {{ m = MatMul(x, w)  {line} }}", f"{head} {{ y = Gemm(x, w, c) }}")


@pytest.mark.parametrize(
    ("x", "c", "body"),
    [
        ("float[2,3,2]", "float[4] c = {1,2,3,4}", "m = MatMul(x, w)  y = Add(m, c)"),  # not two matrices
        ("float[1,2]", "float[2,1] c = {1,2}", "m = MatMul(x, w)  y = Add(m, c)"),  # widens the product
        ("float[N,2]", "float[3,1] c = {1,2,3}", "m = MatMul(x, w)  y = Add(m, c)"),  # perhaps
        ("float[3,2]", "float[1,1,4] c = {1,2,3,4}", "m = MatMul(x, w)  y = Add(m, c)"),
        ("float[3,2]", "float[4] c = {1,2,3,4}", "m = MatMul(x, w)  n = Add(m, c)  y = Add(n, m)"),
    ],
)
def test_fuse_gemm_leaves(x: str, c: str, body: str) -> None:
    dims = "p,q,r" if "1,1,4" in c or "2,3,2" in x else "p,q"
    leaves(FuseGemm(), f"g ({x} x, float[2,4] w) => (float[{dims}] y) <{c}> {{ {body} }}")


PADDED = "g (float[1,2,5,5] x) => (float[1,2,p,q] y) <int64[8] pads = {0,0,1,0,0,0,2,1}, float zero = {0}, "


@pytest.mark.parametrize(
    ("before", "after"),
    [
        (
            "p = Pad(r, pads)  y = Conv<pads = [1,1,1,1]>(p, w)",
            "y = Conv<pads = [2,1,3,2]>(r, w)",
        ),
        (
            "p = Pad(r, pads, zero)  y = AveragePool<kernel_shape = [3,3]>(p)",
            "y = AveragePool<kernel_shape = [3,3], pads = [1,0,2,1], count_include_pad = 1>(r)",
        ),
        (
            "p = Pad(r, pads, zero)  y = MaxPool<kernel_shape = [3,3]>(p)",
            "y = MaxPool<kernel_shape = [3,3], pads = [1,0,2,1]>(r)",
        ),
        (
            "p = Pad(r, low, , tail)  y = Conv(p, w)",
            "y = Conv<pads = [1,2,1,2]>(r, w)",
        ),
    ],
)
def test_fold_pads(check: Any, before: str, after: str) -> None:
    head = PADDED + "float[2,2,3,3] w = {" + ",".join(map(str, range(36))) + "}, "
    head += "int64[4] low = {1,2,1,2}, int64[2] tail = {2,-1}> { r = Relu(x)  "
    same(check, FoldPads(), head + before + "}", head + after + "}")


@pytest.mark.parametrize(
    "body",
    [
        "p = Pad(x, pads, one)  y = Conv(p, w)",
        'p = Pad<mode = "reflect">(x, pads)  y = Conv(p, w)',
        "p = Pad(x, pads)  y = MaxPool<kernel_shape = [3,3]>(p)",  # x may be below 0
        'p = Pad(x, pads)  y = Conv<auto_pad = "SAME_UPPER">(p, w)',
        "p = Pad(x, pads)  y = AveragePool<kernel_shape = [3,3], ceil_mode = 1>(p)",
        "p = Pad(x, pads)  y = AveragePool<kernel_shape = [4,4], pads = [1,1,1,1]>(p)",
        "p = Pad(x, cut)  y = Conv(p, w)",
        "p = Pad(x, channels)  y = Conv(p, w)",
    ],
)
def test_fold_pads_leaves(body: str) -> None:
    leaves(
        FoldPads(),
        f"""g (float[1,2,5,5] x) => (float[a,b,c,d] y) <int64[8] pads = {{0,0,1,0,0,0,2,1}},
        float one = {{1}}, int64[8] cut = {{0,0,-1,0,0,0,0,0}}, int64[8] channels = {{0,1,0,0,0,0,0,0}},
        float[1,2,1,1] w = {{1,2}}> {{ {body} }}""",
    )
