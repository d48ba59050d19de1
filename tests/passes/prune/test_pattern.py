from typing import Any

import numpy as np
import onnx
import onnx_graphsurgeon as gs
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from numpy.typing import NDArray

from optc.models.errors import InputError
from optc.models.model import Model
from optc.passes.base import Context
from optc.passes.prune.masks import block_sums, lowest_mask, lowest_of_groups, spread_blocks
from optc.passes.prune.pattern import Pattern, arranged, restored
from optc.passes.prune.prune import Prune

Array = NDArray[Any]

FLOATS = st.floats(-9, 9, width=32)
STACKS = hnp.arrays(np.float32, hnp.array_shapes(min_dims=3, max_dims=3, max_side=9), elements=FLOATS)


@given(STACKS, st.integers(1, 4), st.integers(1, 4))
def test_n_of_m_holds_in_every_group(scores: Array, keep: int, more: int) -> None:
    group = keep + more
    mask = lowest_of_groups(scores, keep, group)
    whole = scores.shape[-1] // group * group
    kept = ~mask[..., :whole].reshape(*scores.shape[:-1], -1, group)
    assert (kept.sum(axis=-1) == keep).all()
    assert not mask[..., whole:].any()
    groups = scores[..., :whole].reshape(kept.shape)
    least_kept = np.where(kept, groups, np.inf).min(axis=-1, initial=np.inf)
    largest_gone = np.where(kept, -np.inf, groups).max(axis=-1, initial=-np.inf)
    assert (largest_gone <= least_kept).all()


@given(STACKS, st.integers(1, 4), st.integers(1, 4), st.floats(0, 0.95))
def test_blocks_go_whole(scores: Array, rows: int, columns: int, sparsity: float) -> None:
    pattern = Pattern(rows=rows, columns=columns)
    lowest = lowest_mask(pattern.sums(np.abs(scores)), sparsity)
    mask = pattern.spread(lowest, scores.shape)
    assert mask.shape == scores.shape
    assert pattern.totals(mask).sum() == np.count_nonzero(mask)
    if scores.shape[2] < columns:  # the places of the kernel count as channels
        mask = mask.transpose(1, 0, 2).reshape(1, scores.shape[1], -1)
    blocks = block_sums(mask.astype(np.float64), rows, columns)
    assert np.isin(np.round(blocks, 9), (0, rows * columns)).all()
    assert np.count_nonzero(blocks) == round(sparsity * blocks.size)
    assert np.array_equal(spread_blocks(blocks > 0, rows, columns, mask.shape), mask)


@given(
    st.sampled_from(["Conv", "ConvTranspose", "MatMul", "Gemm"]),
    st.integers(1, 9),
    st.integers(1, 9),
    st.integers(1, 4),
    st.integers(1, 4),
    st.integers(0, 9),
)
def test_n_of_m_holds_in_a_model_of_any_shape(
    op: str, outputs: int, sums: int, keep: int, more: int, seed: int
) -> None:
    """Of each `keep + more` neighbours that are summed, at each output and place, `keep` stay."""
    model = layer_of(op, outputs, sums, seed)
    Prune(pattern=f"{keep}:{keep + more}").run(model, Context())
    (node,) = model.view.nodes
    kept = arranged(node, 1, node.inputs[1].values != 0)
    assert kept.shape[1:] == (outputs, sums)
    groups = sums // (keep + more)
    whole = kept[..., : groups * (keep + more)].reshape(*kept.shape[:2], groups, keep + more)
    assert (whole.sum(axis=-1) == keep).all()
    assert kept[..., groups * (keep + more) :].all()


def layer_of(op: str, outputs: int, sums: int, seed: int) -> Model:
    shape = {"Conv": (outputs, sums, 2), "ConvTranspose": (sums, outputs, 2), "MatMul": (sums, outputs)}
    weight = np.random.default_rng(seed).standard_normal(shape.get(op, (outputs, sums))) + 5
    rest = ",3" if "Conv" in op else ""
    attribute = "<transB=1>" if op == "Gemm" else ""
    text = f"""<ir_version: 10, opset_import: ["": 21]>
    g (float[2,{sums}{rest}] x) => (float y) {{ y = {op} {attribute} (x, w) }}"""
    proto = onnx.parser.parse_model(text)
    proto.graph.initializer.append(onnx.numpy_helper.from_array(weight.astype(np.float32), "w"))
    return Model(proto)


LAYERS = {
    "Conv": ((4, 3, 2, 5), {}),
    "ConvTranspose": ((3, 4, 2, 5), {}),
    "MatMul": ((3, 4), {}),
    "Gemm": ((4, 3), {"transB": 1}),
}


@pytest.mark.parametrize("op", LAYERS)
def test_outputs_are_rows_and_sums_are_columns(op: str) -> None:
    shape, attributes = LAYERS[op]
    weight = np.arange(np.prod(shape), dtype=np.float32).reshape(shape)
    node = gs.Node(op, attrs=attributes, inputs=[gs.Variable("x"), gs.Constant("w", weight)])
    found = arranged(node, 1, weight)
    assert found.shape[1:] == (4, 3)
    assert np.array_equal(restored(node, 1, found, shape), weight)


def conv_of(seed: int) -> Model:
    rng = np.random.default_rng(seed)
    weight = onnx.numpy_helper.from_array(rng.standard_normal((8, 8, 3, 3)).astype(np.float32), "w")
    text = """<ir_version: 10, opset_import: ["": 21]>
    g (float[1,8,6,6] x, float[8,8,3,3] w) => (float[1,8,4,4] y) { [conv] y = Conv (x, w) }"""
    proto = onnx.parser.parse_model(text)
    del proto.graph.input[1]
    proto.graph.initializer.append(weight)
    return Model(proto)


@pytest.mark.parametrize("pattern", ["2:4", "1:4", "4x4", "8x2", "single"])
@pytest.mark.parametrize("criterion", ["magnitude", "magnitude-l2", "random"])
def test_half_is_zero_and_a_second_run_changes_nothing(pattern: str, criterion: Any) -> None:
    model, p = conv_of(1), Prune(pattern=pattern, criterion=criterion)
    assert p.run(model, Context())
    (layer,) = (n for n in model.view.nodes)
    zeros = layer.inputs[1].values == 0
    assert zeros.mean() == (0.75 if pattern == "1:4" else 0.5)
    if ":" in pattern:
        channels = zeros.transpose(0, 2, 3, 1).reshape(-1, 4)
        assert (channels.sum(axis=1) == (2 if pattern == "2:4" else 3)).all()
    assert not p.run(model, Context())


def test_a_block_too_large() -> None:
    with pytest.raises(InputError, match="pattern '9999999999x1' has more than"):
        Prune(pattern="9999999999x1")


@pytest.mark.parametrize("text", ["4:2", "2:2", "0:4", "x16", "16x", "half", "", "-1:4"])
def test_a_pattern_that_is_none(text: str) -> None:
    with pytest.raises(InputError, match="takes single, N:M with N below M"):
        Prune(pattern=text)


@pytest.mark.parametrize(
    "options", [{"allocation": "global"}, {"allocation": "sensitivity"}, {"sparsity": 0.5}, {"macs": 0.5}]
)
def test_n_of_m_says_itself_how_many(options: Any) -> None:
    with pytest.raises(InputError, match="pattern '2:4' says itself what goes; leave out allocation"):
        Prune(pattern="2:4", **options)


def test_statistics_need_samples() -> None:
    for p in (Prune(criterion="activation"), Prune(repair="weights")):
        with pytest.raises(InputError, match="needs calibration samples: give them with --calib"):
            p.run(conv_of(1), Context())
