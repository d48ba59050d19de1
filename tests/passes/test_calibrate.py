from collections.abc import Iterator
from pathlib import Path

import numpy as np
import onnx
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from optc.models.data import Samples
from optc.models.errors import InputError
from optc.models.model import Model
from optc.passes.base import Context
from optc.passes.calibrate import calibration_feeds, observe
from optc.passes.convert_floats.values import Largest
from optc.passes.quantize.integer_ends import IntegerEnds
from optc.passes.quantize.statistics import MinMax, Percentile

TEXT = """
<ir_version: 10, opset_import: ["" : 21]>
g (float[BATCH,2] x) => (float[BATCH,2] y) { r = Relu (x) h = Log (r) y = Neg (h) }
"""


def model_of(batch: str = "N") -> Model:
    return Model(onnx.parser.parse_model(TEXT.replace("BATCH", batch)))


def samples(folder: Path, **arrays: np.ndarray) -> Samples:
    np.savez(folder / "x.npz", **arrays)
    return Samples(folder / "x.npz")


def seen(model: Model, data: Samples | None, names: str, **options: int) -> dict[str, tuple[float, float]]:
    watched = {n: MinMax() for n in model.view.tensors() if n in names}
    found = observe(model, watched, Context(calibration=data), **options)
    return {name: s.range() for name, s in found.items()}


X = np.exp(np.array([[0, 1], [2, 3], [-4, -5]], np.float32))


def test_ranges_of_inputs_inner_values_and_outputs(tmp_path: Path) -> None:
    found = seen(model_of(), samples(tmp_path, x=X, label=np.arange(3)), "xhy")
    assert found["x"] == (float(X.min()), float(X.max()))
    assert found["h"] == pytest.approx((-5, 3)) and found["y"] == pytest.approx((-3, 5))


def test_only_so_many_samples(tmp_path: Path) -> None:
    assert seen(model_of(), samples(tmp_path, x=X), "y", limit=2)["y"] == pytest.approx((-3, 0), abs=1e-6)


def test_fixed_batch_is_fed_whole(tmp_path: Path) -> None:
    assert seen(model_of("2"), samples(tmp_path, x=X), "y")["y"] == pytest.approx((-3, 0), abs=1e-6)
    assert seen(model_of("1"), samples(tmp_path, x=X), "y")["y"] == pytest.approx((-3, 5))
    with pytest.raises(InputError, match="has 3 samples, one run of the model takes 4"):
        seen(model_of("4"), samples(tmp_path, x=X), "y")


def test_progress_is_shown(tmp_path: Path) -> None:
    class Bar:
        shown: list[tuple[str, int | None]] = []

        def track(self, items, description, total=None):
            self.shown.append((description, total))
            return iter(items)

    model = model_of()
    context = Context(calibration=samples(tmp_path, x=X), progress=Bar())
    observe(model, {model.view.outputs[0].name: MinMax()}, context)
    assert Bar.shown == [("calibrating", 3)]


def test_no_samples() -> None:
    with pytest.raises(InputError, match="give them with --calib"):
        seen(model_of(), None, "y")


def test_samples_that_do_not_fit(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"no array for the input 'x' \(it has z\)"):
        seen(model_of(), samples(tmp_path, z=X), "y")
    with pytest.raises(InputError, match="array 'x' is float64, the input takes float32"):
        seen(model_of(), samples(tmp_path, x=X.astype(float)), "y")
    with pytest.raises(InputError, match=r"array 'x' has shape \[2, 3\]"):
        seen(model_of(), samples(tmp_path, x=np.ascontiguousarray(X.T)), "y")


def test_nan_is_named(tmp_path: Path) -> None:
    bad = X.copy()
    bad[1, 0] = np.nan
    with pytest.raises(InputError, match="x.npz: sample 1: array 'x' holds NaN or infinity"):
        seen(model_of(), samples(tmp_path, x=bad), "y")
    bad[1, 0] = 0  # its logarithm is minus infinity
    with pytest.raises(InputError, match="x.npz: sample 1: makes 'h' NaN or infinite"):
        seen(model_of(), samples(tmp_path, x=bad), "h")
    with pytest.raises(InputError, match="x.npz: samples 0 to 2: makes 'h' NaN or infinite"):
        seen(model_of("3"), samples(tmp_path, x=bad), "h")


PAIR = """<ir_version: 10, opset_import: ["" : 21]>
g (float[BATCH,S] x, float[BATCH,S] z, int64[BATCH] i) => (float[BATCH,S] y) { y = Sub (x, z) }"""


def pair(batch: str = "N") -> Model:
    return Model(onnx.parser.parse_model(PAIR.replace("BATCH", batch)))


def write(path: Path, x: np.ndarray) -> None:
    """The inputs of PAIR; `i` is the same everywhere, as token types are."""
    np.savez(path, x=x, z=x / 2, i=np.ones(len(x), np.int64))


def folder_of(folder: Path, *arrays: np.ndarray) -> Samples:
    for index, x in enumerate(arrays):
        write(folder / f"{index}.npz", x)
    return Samples(folder)


ROWS = st.lists(
    hnp.arrays(np.float32, st.tuples(st.integers(1, 4), st.just(3)), elements=st.floats(-9, 9, width=32)),
    min_size=1,
    max_size=4,
)


@given(arrays=ROWS, limit=st.none() | st.integers(1, 9))
def test_a_folder_of_equal_shapes_gives_the_ranges_of_one_file(
    tmp_path_factory: pytest.TempPathFactory, arrays: list[np.ndarray], limit: int | None
) -> None:
    arrays[0] = np.concatenate([[[-1, 0, 2]], arrays[0]]).astype(np.float32)  # not one number everywhere
    folder = tmp_path_factory.mktemp("files")
    parts = folder_of(folder, *arrays)
    (folder / "one").mkdir()
    found = []
    for data in (parts, folder_of(folder / "one", np.concatenate(arrays))):
        watched = {"x": MinMax(), "y": Percentile(90.0)}
        observe(pair(), watched, Context(calibration=data), limit)
        found.append([s.range() for s in watched.values()])
    assert found[0] == found[1]


X3, X5 = (np.arange(2.0 * n, dtype=np.float32).reshape(2, n) for n in (3, 5))


def test_samples_of_different_shapes(tmp_path: Path) -> None:
    data = folder_of(tmp_path, X3, 9 * X5, -X3)
    feeds = list(calibration_feeds(pair(), Context(calibration=data)))
    assert [f["x"].shape for _, f in feeds] == [(1, 3)] * 2 + [(1, 5)] * 2 + [(1, 3)] * 2
    assert [w.rpartition("/")[2] for w, _ in feeds][1:3] == ["0.npz: sample 1", "1.npz: sample 0"]
    assert seen(pair(), data, "y")["y"] == (-2.5, 40.5)


def test_a_fixed_batch_takes_samples_of_one_shape(tmp_path: Path) -> None:
    data = folder_of(tmp_path, X3, X3, X5, X3)
    shapes = [f["x"].shape for _, f in calibration_feeds(pair("4"), Context(calibration=data))]
    assert shapes == [(4, 3)]  # the two of five, and the last two, are too few
    (tmp_path / "few").mkdir()
    few = folder_of(tmp_path / "few", X3, X5, X3)
    with pytest.raises(InputError, match="one run of the model takes 4 samples of one shape"):
        seen(pair("4"), few, "y")


def test_shapes_that_do_not_fit_name_their_file(tmp_path: Path) -> None:
    fixed = Model(onnx.parser.parse_model(PAIR.replace("BATCH", "N").replace("S]", "3]")))
    with pytest.raises(InputError, match=r"1.npz: array 'x' has shape \[2, 5\], the input takes \[N, 3\]"):
        seen(fixed, folder_of(tmp_path, X3, X5), "y")


def test_arrays_that_are_no_input(tmp_path: Path) -> None:
    data = samples(tmp_path, x=X, z=X, label=np.arange(3))
    with pytest.raises(InputError, match=r"x.npz: array 'z' is no input of the model \(it takes x\)"):
        seen(model_of(), data, "y")


@pytest.mark.parametrize("value", [0.0, 1.0, -2.5])
def test_an_input_that_is_one_number_everywhere(tmp_path: Path, value: float) -> None:
    data = folder_of(tmp_path, np.full((2, 3), value, np.float32), np.full((1, 5), value, np.float32))
    with pytest.raises(InputError, match=f"array 'x' is {value:g} everywhere in all samples used"):
        seen(pair(), data, "y")


def test_an_input_that_nothing_watches_may_be_one_number(tmp_path: Path) -> None:
    """The state of an LSTM, which begins with zeros, is not calibrated."""
    x = np.array([[1, 2, 4]], np.float32)
    np.savez(tmp_path / "state.npz", x=x, z=np.zeros_like(x), i=np.ones(1, np.int64))
    assert seen(pair(), Samples(tmp_path / "state.npz"), "y")["y"] == (1, 4)
    with pytest.raises(InputError, match="array 'z' is 0 everywhere in all samples used"):
        seen(pair(), Samples(tmp_path / "state.npz"), "z")


def test_only_the_samples_used_have_to_vary(tmp_path: Path) -> None:
    data = folder_of(tmp_path, np.ones((2, 3), np.float32), np.array([[1, 1, 2]], np.float32))
    assert seen(pair(), data, "x")["x"] == (1, 2)
    with pytest.raises(InputError, match="array 'x' is 1 everywhere in all samples used"):
        seen(pair(), data, "x", limit=2)


def test_constants_need_no_second_look_at_the_data(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    data = folder_of(tmp_path, X3, X5)
    read, batches = [], data.batches

    def counted(names: list[str], size: int, limit: int | None = None) -> Iterator[dict[str, np.ndarray]]:
        for batch in batches(names, size, limit):
            read.append(len(batch["x"]))
            yield batch

    monkeypatch.setattr(data, "batches", counted)
    seen(pair(), data, "y")
    assert read == [1, 1, 1, 1]


def test_codes_at_the_ends_take_float_samples(tmp_path: Path) -> None:
    """What stands for floats is coded before it runs; infinity inside is allowed where it is asked for."""
    text = """<ir_version: 10, opset_import: ["" : 21]> g (float[N,2] x) => (float[N,2] y)
    <float s = {0.5}, uint8 z = {0}> {
    q = QuantizeLinear (x, s, z) d = DequantizeLinear (q, s, z) h = Log(d) y = Neg(h) }"""
    model = Model(onnx.parser.parse_model(text))
    IntegerEnds().run(model, Context())
    np.savez(tmp_path / "x.npz", x=np.array([[1.2, 4.0], [0.0, 2.0]], np.float32))
    context = Context(calibration=Samples(tmp_path / "x.npz"))
    low, log = MinMax(), Largest()
    observe(model, {"d": low, "h": log}, context, finite=False)
    assert low.high == 4.0 and log.magnitude == np.log(np.float32(4.0))
    with pytest.raises(InputError, match="sample 1: makes 'h' NaN or infinite"):
        observe(model, {"h": Largest()}, context)
