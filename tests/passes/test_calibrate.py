from pathlib import Path

import numpy as np
import onnx
import pytest

from optc.models.data import Samples
from optc.models.errors import InputError
from optc.models.model import Model
from optc.passes.base import Context
from optc.passes.calibrate import observe
from optc.passes.convert_floats.values import Largest
from optc.passes.quantize.integer_ends import IntegerEnds
from optc.passes.quantize.statistics import MinMax

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
