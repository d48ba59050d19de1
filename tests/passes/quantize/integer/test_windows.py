import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from onnx import TensorProto, helper

from optc.models.model import Model
from optc.models.session import Session
from optc.passes.quantize.integer.ops import Window
from optc.passes.quantize.integer.windows import counts, output_size, padding, slid


def window(kernel: int, stride: int = 1, pads: tuple[int, int] = (0, 0), **more: object) -> Window:
    return Window((kernel,), (stride,), (1,), pads, **more)  # type: ignore[arg-type]


def test_windows_in_numbers() -> None:
    found = slid(np.array([[[1, 2, 3]]]), window(2, 2, (1, 0)), 9)
    assert found.tolist() == [[[[9, 1], [2, 3]]]]


def test_same_pads_put_the_odd_one_after_or_before() -> None:
    assert padding(window(2, auto_pad="SAME_UPPER"), [5]) == [(0, 1)]
    assert padding(window(2, auto_pad="SAME_LOWER"), [5]) == [(1, 0)]
    assert padding(window(1, 2, auto_pad="SAME_UPPER"), [5]) == [(0, 0)]


def test_counts_at_the_border() -> None:
    assert counts(window(3, 1, (1, 1)), [3], count_pads=False).tolist() == [2, 3, 2]
    assert counts(window(3, 1, (1, 1)), [3], count_pads=True).tolist() == [3, 3, 3]


def test_what_overhangs_the_padding_is_not_counted() -> None:
    overhanging = window(2, 2, (0, 0), ceil_mode=True)
    assert output_size(overhanging, [5]) == (3,)
    assert counts(overhanging, [5], count_pads=True).tolist() == [2, 2, 1]


def test_a_last_window_that_starts_in_the_padding_is_dropped() -> None:
    assert output_size(window(2, 3, (0, 1), ceil_mode=True), [6]) == (2,)


@st.composite
def pools(draw: st.DrawFn) -> tuple[str, np.ndarray, dict[str, object]]:
    rank = draw(st.integers(1, 3))
    kernel = [draw(st.integers(1, 3)) for _ in range(rank)]
    attributes: dict[str, object] = {
        "kernel_shape": kernel,
        "strides": [draw(st.integers(1, 3)) for _ in range(rank)],
        "dilations": [draw(st.integers(1, 2)) for _ in range(rank)],
        "pads": [draw(st.integers(0, k - 1)) for k in kernel * 2],
        "ceil_mode": draw(st.integers(0, 1)),
    }
    op = draw(st.sampled_from(["MaxPool", "AveragePool"]))
    if op == "AveragePool":
        attributes["count_include_pad"] = draw(st.integers(0, 1))
    sizes = [draw(st.integers(5, 7)) for _ in range(rank)]
    return op, np.random.default_rng(sum(sizes)).integers(1, 9, (1, 2, *sizes)), attributes


@settings(max_examples=60, deadline=None)
@given(pools())
def test_pooling_equals_onnx_runtime(pool: tuple[str, np.ndarray, dict[str, object]]) -> None:
    op, x, attributes = pool
    kernel, strides, dilations, pads = (
        tuple(attributes[n]) for n in ("kernel_shape", "strides", "dilations", "pads")
    )  # type: ignore[arg-type]
    where = Window(kernel, strides, dilations, pads, ceil_mode=bool(attributes["ceil_mode"]))
    axes = tuple(range(x.ndim, 2 * x.ndim - 2))
    if op == "MaxPool":
        ours = slid(x, where, 0).max(axis=axes)
    else:
        count = counts(where, x.shape[2:], bool(attributes["count_include_pad"]))
        ours = slid(x, where, 0).sum(axis=axes) / np.maximum(count, 1)
    graph = helper.make_graph(
        [helper.make_node(op, ["x"], ["y"], **attributes)],
        "pool",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, x.shape)],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, None)],
    )
    proto = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 21)], ir_version=10)
    theirs = Session(Model(proto)).run({"x": x.astype(np.float32)})["y"]
    np.testing.assert_allclose(ours, theirs, rtol=1e-6)


def test_batches_and_channels_stay_apart() -> None:
    x = np.arange(12).reshape(2, 2, 3)
    assert slid(x, window(3), 0)[..., 0, :].tolist() == x.tolist()


@pytest.mark.parametrize("size", [4, 5, 6])
def test_same_keeps_ceil_of_size_by_stride(size: int) -> None:
    assert output_size(window(3, 2, auto_pad="SAME_UPPER"), [size]) == (-(-size // 2),)
