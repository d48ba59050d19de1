"""Where the zeros go: the same share everywhere, by scores over all layers, by how far outputs move."""

from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from hypothesis import given
from hypothesis import strategies as st

from optc.models.data import Samples
from optc.models.errors import InputError
from optc.models.model import Model
from optc.models.session import Session
from optc.passes.analysis.counts import count, node_macs
from optc.passes.base import Context
from optc.passes.prune.allocate import cheapest
from optc.passes.prune.prune import Prune
from optc.passes.prune.sensitivity import _slopes

TEXT = """<ir_version: 10, opset_import: ["": 21]>
g (float[N,4,12,12] x) => (float[N,3] y) {
  [early] a = Conv <pads=[1,1,1,1]> (x, w1)
  r = Relu (a)
  [narrow] c = Conv <strides=[3,3]> (r, w2)
  s = Relu (c)
  [late] d = Conv (s, w3)
  p = GlobalAveragePool (d)
  f = Flatten (p)
  [last] y = MatMul (f, w4)
}"""
SHAPES = {"w1": (16, 4, 3, 3), "w2": (16, 16, 3, 3), "w3": (32, 16, 2, 2), "w4": (32, 3)}
USES = {"early": 144, "narrow": 16, "late": 9, "last": 1}
"""How often each weight is multiplied."""


def network(seed: int = 3) -> Model:
    proto = onnx.parser.parse_model(TEXT)
    rng = np.random.default_rng(seed)
    for name, shape in SHAPES.items():
        values = rng.standard_normal(shape) / np.sqrt(np.prod(shape[1:]))
        proto.graph.initializer.append(onnx.numpy_helper.from_array(values.astype(np.float32), name))
    return Model(proto)


def context(tmp_path: Path) -> Context:
    x = np.random.default_rng(1).standard_normal((160, 4, 12, 12)).astype(np.float32)
    np.savez(tmp_path / "calib.npz", x=x)
    return Context(calibration=Samples(tmp_path / "calib.npz"))


def kept(model: Model) -> dict[str, Any]:
    names = zip(SHAPES, USES, strict=True)
    arrays = {t.name: onnx.numpy_helper.to_array(t) for t in model.to_proto().graph.initializer}
    return {layer: arrays[weight] != 0 for weight, layer in names}


def left(model: Model) -> float:
    """The share of the multiply-accumulates whose weight is not zero, by hand."""
    macs = sum(USES[name] * np.count_nonzero(mask) for name, mask in kept(model).items())
    return float(macs / sum(USES[name] * mask.size for name, mask in kept(model).items()))


def test_macs_of_each_node() -> None:
    model = network()
    sizes = {"a": 144 * 576, "c": 16 * 2304, "d": 9 * 2048, "y": 96}
    assert node_macs(model) == sizes
    assert count(model).macs == sum(sizes.values())


@pytest.mark.parametrize("allocation", ["uniform", "global", "sensitivity"])
@pytest.mark.parametrize("pattern", ["single", "4x4", "16x16"])
@pytest.mark.parametrize("macs", [0.3, 0.5, 0.9])
def test_macs_are_reached_within_one_block(
    allocation: Any, pattern: str, macs: float, tmp_path: Path
) -> None:
    model, found = network(), context(tmp_path)
    assert Prune(allocation=allocation, pattern=pattern, macs=macs).run(model, found)
    total = sum(node_macs(network()).values())
    side = 1 if pattern == "single" else int(pattern.partition("x")[0])
    largest = side * side * max(USES.values())
    assert left(model) == pytest.approx(found.facts["macs"])
    assert macs - largest / total < left(model) <= macs + 1e-9


@pytest.mark.parametrize("allocation", ["uniform", "global", "sensitivity"])
@pytest.mark.parametrize("pattern", ["single", "4x4"])
def test_sparsity_is_reached_exactly(allocation: Any, pattern: str, tmp_path: Path) -> None:
    model = network()
    Prune(allocation=allocation, pattern=pattern, sparsity=0.4).run(model, context(tmp_path))
    sizes = {name: mask.size for name, mask in kept(model).items()}
    zeros = {name: mask.size - np.count_nonzero(mask) for name, mask in kept(model).items()}
    blocks = 1 if pattern == "single" else 16
    assert abs(sum(zeros.values()) - 0.4 * sum(sizes.values())) <= 2 * blocks  # the last layer has 3 outputs
    if allocation == "uniform":
        assert all(abs(zeros[n] - 0.4 * sizes[n]) <= blocks for n in sizes)


def test_uniform_takes_the_same_share_of_macs() -> None:
    model = network()
    Prune(macs=0.6).run(model, Context())
    for mask in kept(model).values():
        assert abs(mask.mean() - 0.6) <= 1 / min(mask.size, 96) + 1e-9


def test_by_macs_the_layers_that_work_most_lose_most(tmp_path: Path) -> None:
    by_weights, by_macs = network(), network()
    Prune(allocation="global", sparsity=0.5).run(by_weights, Context())
    Prune(allocation="global", macs=0.5).run(by_macs, Context())
    assert kept(by_macs)["early"].mean() < kept(by_weights)["early"].mean()
    assert kept(by_macs)["last"].mean() > kept(by_weights)["last"].mean()
    assert sum(m.sum() for m in kept(by_macs).values()) > sum(m.sum() for m in kept(by_weights).values())


def test_scores_of_any_scale_compare_and_no_layer_goes_whole() -> None:
    """LAMP by hand: each weight's share of those that are not smaller."""
    small, large = network(), network()
    large.graph.nodes[2].inputs[1].values *= 1000
    for model in (small, large):
        Prune(allocation="global", sparsity=0.97).run(model, Context())
    found = [kept(m) for m in (small, large)]
    assert all(np.array_equal(found[0][n], found[1][n]) for n in USES)
    assert all(mask.any() for mask in found[0].values())


def test_sensitivity_spares_what_outputs_need(tmp_path: Path) -> None:
    """Half of the channels of `late` are read by nothing: its other blocks are the cheapest there are."""
    model = network()
    model.graph.nodes[-1].inputs[1].values[16:] = 0
    model.graph.nodes[4].inputs[1].values[16:] *= 1e-3
    given = context(tmp_path)
    Prune(allocation="sensitivity", pattern="16x16", sparsity=0.35, layers=("early", "late")).run(
        model, given
    )
    mask = kept(model)["late"]
    assert not mask[16:].any() and mask[:16].all() and kept(model)["early"].all()


def test_sensitivity_moves_outputs_less_than_scores_do(tmp_path: Path) -> None:
    given = context(tmp_path)
    x = np.random.default_rng(8).standard_normal((8, 4, 12, 12)).astype(np.float32)
    wanted = Session(network()).run({"x": x})["y"]

    def noise(**options: Any) -> float:
        model = network()
        Prune(pattern="4x4", macs=0.7, **options).run(model, given)
        return float(np.mean((Session(model).run({"x": x})["y"] - wanted) ** 2))

    assert noise(allocation="sensitivity") < noise(allocation="uniform")
    assert noise(allocation="sensitivity", repair="weights") < noise(allocation="sensitivity")


def test_measured_once(tmp_path: Path) -> None:
    """A model that is pruned that far already is left alone, unmeasured; same seed, same bytes."""
    first, second = network(), network()
    p = Prune(allocation="sensitivity", macs=0.5, repair="bias")
    for model in (first, second):
        assert p.run(model, context(tmp_path))
    assert first.to_proto().SerializeToString(deterministic=True) == second.to_proto().SerializeToString(
        deterministic=True
    )
    assert not Prune(allocation="sensitivity", macs=0.5).run(first, Context())


def test_what_was_zero_counts() -> None:
    model = network()
    model.graph.nodes[0].inputs[1].values[:] = 0
    assert left(model) < 0.5
    assert not Prune(macs=0.5, allocation="global").run(model, Context())


def test_a_weight_that_two_nodes_use_counts_twice() -> None:
    text = """<ir_version: 10, opset_import: ["" : 21]>
    g (float[6,2] x) => (float[6,2] y) <float[2,2] w = {1, 2, 3, 4}, float[2,2] v = {9, 9, 9, 9}>
    { [a] h = MatMul (x, w) [b] i = Gemm (h, w) [c] y = MatMul (i, v) }"""
    model = Model(onnx.parser.parse_model(text))
    found = Context()
    assert Prune(macs=0.7, layers=("a",)).run(model, found)
    assert found.facts["macs"] == pytest.approx(1 - 2 * (6 + 6) / 72)
    arrays = {t.name: onnx.numpy_helper.to_array(t).tolist() for t in model.to_proto().graph.initializer}
    assert arrays["w"] == [[0, 0], [3, 4]]


def test_macs_that_cannot_be_reached() -> None:
    with pytest.raises(InputError, match=r"macs 0\.1 is less than what the other layers need"):
        Prune(macs=0.1, layers=("last",)).run(network(), Context())


def test_shapes_that_are_not_known() -> None:
    text = """<ir_version: 10, opset_import: ["" : 21, "own" : 1]>
    g (float[2,2] x) => (float y) <float[2,2] w = {1, 2, 3, 4}>
    { h = own.Op (x) [a] i = MatMul (h, w) y = ReduceSum (i) }"""
    model = Model(onnx.parser.parse_model(text))
    with pytest.raises(
        InputError, match="the shape that 'a' makes is not known; run infer-shapes, or prune by"
    ):
        Prune(macs=0.5).run(model, Context())


@pytest.mark.parametrize("macs", [0.0, -0.5, 1.5, float("nan")])
def test_macs_out_of_range(macs: float) -> None:
    with pytest.raises(InputError, match="macs .* is not above 0 and at most 1"):
        Prune(macs=macs)


def test_one_amount() -> None:
    with pytest.raises(InputError, match="sparsity and macs both say how much goes; give one of them"):
        Prune(sparsity=0.5, macs=0.5)


def test_sensitivity_needs_samples() -> None:
    with pytest.raises(InputError, match="allocation=sensitivity needs calibration samples"):
        Prune(allocation="sensitivity").run(network(), Context())


PRICES = st.lists(st.lists(st.integers(0, 6), min_size=1, max_size=8).map(sorted), min_size=1, max_size=4)


@given(PRICES, st.integers(0, 40), st.integers(0, 9))
def test_the_cheapest_are_taken_and_no_more_than_needed(
    prices: list[list[int]], amount: int, seed: int
) -> None:
    rng = np.random.default_rng(seed)
    costs = [rng.integers(1, 5, len(p)).astype(float) for p in prices]
    counts = cheapest([np.array(p, float) for p in prices], costs, amount)
    taken = sum(c[:n].sum() for c, n in zip(costs, counts, strict=True))
    dearest = max((p[n - 1] for p, n in zip(prices, counts, strict=True) if n), default=-1)
    cheapest_left = min((p[n] for p, n in zip(prices, counts, strict=True) if n < len(p)), default=99)
    assert dearest <= cheapest_left
    assert taken >= min(amount, sum(c.sum() for c in costs))
    # Without one of the dearest that were taken it would not be enough.
    ends = [c[n - 1] for p, c, n in zip(prices, costs, counts, strict=True) if n and p[n - 1] == dearest]
    assert not ends or taken - max(ends) < amount


@given(st.lists(st.tuples(st.integers(0, 4), st.floats(0, 9)), min_size=1, max_size=6))
def test_prices_ascend_below_what_was_measured(steps: list[tuple[int, float]]) -> None:
    counts = [0, *np.cumsum([n for n, _ in steps]).tolist()]
    noise = [0.0, *(value for _, value in steps)]
    slopes = _slopes(counts, noise)
    assert slopes.size == counts[-1]
    assert (np.diff(slopes) >= -1e-9).all()
    under = np.concatenate([[0.0], np.cumsum(slopes)])
    last = {n: min(v for c, v in zip(counts, noise, strict=True) if c == n) for n in counts[1:]}
    assert all(under[n] <= value + 1e-6 for n, value in last.items() if n)
