"""Inputs from input types and value ranges."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import numpy_helper

from optc.models.data import Samples
from optc.models.errors import InputError
from optc.models.model import Model
from optc.models.session import Session
from optc.passes.verify.feeds import Feeds, check_samples, fixed_batch, sample_feeds
from optc.passes.verify.inputs import generate, generate_runnable, value_ranges

HEAD = '<ir_version: 8, opset_import: ["": 17]> '


def parse(text: str, **arrays: np.ndarray) -> Model:
    proto = onnx.parser.parse_model(HEAD + text)
    proto.graph.initializer.extend(numpy_helper.from_array(a, n) for n, a in arrays.items())
    return Model(proto)


def relu(shape: str = "N,4") -> Model:
    return parse(f"g (float[{shape}] x) => (float[{shape}] y) {{ y = Relu(x) }}")


def samples(folder: Path, **arrays: np.ndarray) -> Samples:
    np.savez(folder / "s.npz", **arrays)
    return Samples(folder / "s.npz")


def test_floats_are_normal_and_seeded() -> None:
    model = relu("64,4096")
    a, b, c = (generate(model, seed)["x"] for seed in (1, 1, 2))
    assert a.dtype == np.float32 and a.shape == (64, 4096)
    assert np.array_equal(a, b) and not np.array_equal(a, c)
    assert abs(a.mean()) < 0.01 and abs(a.std() - 1) < 0.01


def test_ranges_seen_in_samples(tmp_path: Path) -> None:
    model = relu("N,512")
    seen = value_ranges(model, samples(tmp_path, x=np.linspace(3, 5, 4096, dtype=np.float32).reshape(8, 512)))
    assert seen == {"x": (3.0, 5.0)}
    values = generate(model, 0, seen)["x"]
    assert 3 <= values.min() < 3.1 and 4.9 < values.max() <= 5


def test_empty_samples_have_no_range(tmp_path: Path) -> None:
    np.savez(tmp_path / "x.npz", x=np.zeros((3, 0), np.float32))
    model = Model(onnx.parser.parse_model(HEAD + "g (float[N,0] x) => (float[N,0] y) { y = Neg(x) }"))
    assert value_ranges(model, Samples(tmp_path / "x.npz")) == {}


def test_free_dimensions_and_symbols() -> None:
    model = parse("g (float[N,S] x, float[S,N] y) => (float[N,N] z) { z = MatMul(x, y) }")
    feeds = generate(model, free=5)
    assert feeds["x"].shape == (1, 5) and feeds["y"].shape == (5, 1)


def test_indices_stay_inside_their_table() -> None:
    model = parse(
        """g (int64[N,64] ids, int64[N,64] kinds) => (float[a,b,c] y) {
            u = Cast<to=6>(ids) a = Gather(table, u) b = Gather<axis=1>(small, kinds)
            t = Transpose<perm=[1,2,0]>(b) y = Add(a, t) }""",
        table=np.zeros((300, 3), np.float32),
        small=np.zeros((3, 2), np.float32),
    )
    feeds = generate(model)
    assert feeds["ids"].min() >= 0 and 200 < feeds["ids"].max() < 300
    assert set(np.unique(feeds["kinds"])) == {0, 1}
    Session(model).run(feeds)


def test_a_table_stored_as_integers() -> None:
    model = parse(
        "g (int64[64] ids) => (float[64,2] y) { t = DequantizeLinear(q, s) y = Gather(t, ids) }",
        q=np.zeros((5, 2), np.int8),
        s=np.float32([0.1])[0],
    )
    assert set(generate(model)["ids"]) == set(range(5))


def test_masks_booleans_and_other_integers() -> None:
    model = parse(
        """g (int64[4,8] attention_mask, float[4,8] float_mask, bool[64] b, uint8[256] u,
            int8[256] i, int64[64] k)
        => (int64[4,8] m, float[4,8] f, bool[64] c, uint8[256] v, int8[256] j, int64[64] l) {
            m = Identity(attention_mask) f = Identity(float_mask) c = Identity(b) v = Identity(u)
            j = Identity(i) l = Identity(k) }"""
    )
    feeds = generate(model)
    assert set(np.unique(feeds["attention_mask"])) == {0, 1} == set(np.unique(feeds["float_mask"]))
    assert (feeds["attention_mask"][:, 0] == 1).all()
    assert feeds["b"].dtype == np.bool_ and set(feeds["b"]) == {True, False}
    assert feeds["u"].max() > 200 and feeds["i"].min() < -80
    assert set(feeds["k"]) == {0, 1}


def test_sizes_are_tried_until_the_model_runs() -> None:
    model = parse("g (float[N,1,H,W] x) => (float[a,b,c,d] y) { y = AveragePool<kernel_shape=[20,20]>(x) }")
    assert generate_runnable(model, Session(model))["x"].shape == (1, 1, 32, 32)


def test_no_size_works() -> None:
    model = parse(
        "g (float[N,S] x) => (float[N,T] y) { y = MatMul(x, w) }",
        w=np.zeros((13, 2), np.float32),
    )
    with pytest.raises(InputError, match="no inputs could be made that the model runs on; give some with -i"):
        generate_runnable(model, Session(model))


def test_what_cannot_be_generated() -> None:
    with pytest.raises(InputError, match="'x' has no shape"):
        generate(parse("g (float[] x) => (float[] y) { y = Relu(x) }"))
    with pytest.raises(InputError, match="'x' is no tensor of numbers"):
        generate(parse("g (string[2] x) => (string[2] y) { y = Identity(x) }"))


def test_initializers_that_are_inputs_are_left_alone() -> None:
    model = parse("g (float[2] x, float[2] w) => (float[2] y) { y = Add(x, w) }", w=np.ones(2, np.float32))
    assert list(generate(model)) == ["x"]


def test_samples_fill_a_fixed_batch(tmp_path: Path) -> None:
    model = relu("4,2")
    data = samples(tmp_path, x=np.arange(12, dtype=np.float32).reshape(6, 2), label=np.arange(6))
    assert fixed_batch(model) == 4 and fixed_batch(relu()) is None
    first, second = sample_feeds(model, data, 64, extra=("label",))
    assert first[1] == 4 and second[1] == 2
    assert second[0]["x"].tolist() == [[8, 9], [10, 11], [10, 11], [10, 11]]
    assert second[0]["label"].tolist() == [4, 5, 5, 5]


def test_bad_samples(tmp_path: Path) -> None:
    bad = np.zeros((100, 4), np.float32)
    bad[70, 2] = np.nan
    with pytest.raises(InputError, match="calibration .*s.npz: array 'x' holds NaN or infinity in sample 70"):
        check_samples(relu(), samples(tmp_path, x=bad), "calibration")
    with pytest.raises(InputError, match="no array for the input 'x'"):
        check_samples(relu(), samples(tmp_path, z=bad), "calibration")
    with pytest.raises(InputError, match="is float64, the input takes float32"):
        check_samples(relu(), samples(tmp_path, x=np.zeros((2, 4))), "calibration")
    with pytest.raises(InputError, match=r"has shape \[100, 4\], the input takes \[N, 5\]"):
        check_samples(relu("N,5"), samples(tmp_path, x=bad), "calibration")


def test_feeds_are_made_anew_for_other_shapes(tmp_path: Path) -> None:
    data = samples(tmp_path, x=np.arange(20, dtype=np.float32).reshape(5, 4))
    feeds = Feeds(samples=data)
    free, fixed = relu(), relu("2,4")
    feeds.fit(free, Session(free))
    assert feeds.fits(free) and not feeds.fits(fixed)
    assert [a["x"].shape for a in feeds.arrays] == [(5, 4)]
    feeds.fit(fixed, Session(fixed))
    assert [a["x"].shape for a in feeds.arrays] == [(2, 4)] * 3
    assert [o["y"].shape for o in feeds.run(Session(fixed))] == [(2, 4)] * 3


def test_given_arrays_must_fit() -> None:
    model = relu()
    with pytest.raises(InputError, match="the given inputs: has no array for the input 'x'"):
        Feeds({"z": np.zeros(1)}).fit(model, Session(model))
