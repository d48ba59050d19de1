"""The verify watcher: it passes honest passes and catches every kind of broken one."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar

import numpy as np
import onnx
import pytest
from onnx import numpy_helper

from optc.models.data import Samples
from optc.models.errors import InputError
from optc.models.model import Model
from optc.passes.base import Context, Contract, Exact, Lossy, Pass
from optc.passes.bind_shapes import BindShapes
from optc.passes.pipeline import Pipeline
from optc.passes.verify.evaluate import Evaluator
from optc.passes.verify.feeds import Feeds
from optc.passes.verify.fingerprint import fingerprint
from optc.passes.verify.watcher import VerifyError, VerifyWatcher

HEAD = '<ir_version: 8, opset_import: ["": 17]> '
LINEAR = "g (float[N,4] x) => (float[N,3] y) { h = MatMul(x, w) y = Relu(h) }"


def model(text: str = LINEAR) -> Model:
    proto = onnx.parser.parse_model(HEAD + text)
    weights = np.random.default_rng(0).standard_normal((4, 3)).astype(np.float32)
    proto.graph.initializer.append(numpy_helper.from_array(weights, "w"))
    return Model(proto)


@dataclass(frozen=True)
class Edit:
    """A pass made of one function; what it says of itself may be a lie."""

    name: ClassVar[str] = "edit"
    edit: Callable[[Model], None]
    contract: Contract = Exact()
    says: bool = True

    def run(self, model: Model, context: Context) -> bool:
        self.edit(model)
        return self.says


def weight(model: Model) -> np.ndarray:
    return np.array(model.view.nodes[0].inputs[1].values)


def scale_weight(factor: float) -> Callable[[Model], None]:
    def edit(model: Model) -> None:
        model.graph.nodes[0].inputs[1].values = weight(model) * np.float32(factor)

    return edit


def rename_output(model: Model) -> None:
    model.graph.outputs[0].name = "z"


def rename_input(model: Model) -> None:
    model.graph.inputs[0].name = "q"


def break_graph(model: Model) -> None:
    model.graph.nodes[1].op = "Softplux"


def read_only(model: Model) -> None:
    assert weight(model).shape == (4, 3)


def nothing(model: Model) -> None:
    pass


def verify(*passes: Pass, on: Model | None = None, watcher: VerifyWatcher | None = None) -> VerifyWatcher:
    watcher = watcher or VerifyWatcher()
    Pipeline(passes).run(on or model(), Context(), [watcher])
    return watcher


def test_an_honest_exact_pass() -> None:
    watcher = verify(Edit(scale_weight(1 + 1e-6)))
    start, row = watcher.rows
    assert (start.name, start.counts.nodes, start.counts.macs, start.max_error) == ("(input)", 2, 12, None)
    assert (row.changed, row.broken, row.contract) == (True, False, "exact")
    assert 0 < row.max_error < 1e-5 and row.snr_db > 100


def test_a_perturbed_weight_breaks_exact_and_the_row_is_kept() -> None:
    with pytest.raises(VerifyError) as caught:
        verify(Edit(nothing, says=False), Edit(scale_weight(1.01)))
    assert str(caught.value).startswith("pass 'edit' breaks its contract (exact): output 'y' moved by ")
    assert caught.value.exit_status == 1
    assert [r.broken for r in caught.value.rows] == [False, False, True]
    assert caught.value.rows[-1].max_error > 0.001


def test_lossy_reports_what_it_lost() -> None:
    row = verify(Edit(scale_weight(1.01), Lossy("precision"))).rows[1]
    assert row.contract == "lossy: precision"
    assert row.snr_db == pytest.approx(40, abs=0.1)
    assert not row.broken


@pytest.mark.parametrize("edit", [scale_weight(1.5), scale_weight(1 + 1e-6), rename_output])
@pytest.mark.parametrize("contract", [Exact(), Lossy("precision")])
def test_a_lie_about_unchanged(edit: Callable[[Model], None], contract: Contract) -> None:
    with pytest.raises(VerifyError, match="says it changed nothing, but the model differs"):
        verify(Edit(edit, contract, says=False))


def test_a_lie_about_unchanged_after_a_real_change() -> None:
    with pytest.raises(VerifyError, match="says it changed nothing"):
        verify(Edit(scale_weight(1 + 1e-6)), Edit(scale_weight(1 + 1e-6), says=False))


def test_reading_lazy_weights_is_no_change() -> None:
    verify(Edit(read_only, says=False), Edit(nothing, says=False))


@pytest.mark.parametrize("contract", [Exact(), Lossy("precision")])
def test_a_renamed_output(contract: Contract) -> None:
    with pytest.raises(VerifyError, match="output 'y' is missing"):
        verify(Edit(rename_output, contract))


def test_a_renamed_input() -> None:
    with pytest.raises(VerifyError, match="the inputs were x, now q"):
        verify(Edit(rename_input))


def test_a_model_that_no_longer_runs() -> None:
    with pytest.raises(VerifyError, match="the model no longer runs: .*Softplux"):
        verify(Edit(break_graph))


def test_nan_under_lossy() -> None:
    with pytest.raises(VerifyError, match="holds NaN where there was none"):
        verify(Edit(scale_weight(math.nan), Lossy("precision")))


def test_a_random_model_is_not_compared() -> None:
    noisy = model(
        "g (float[2,4] x) => (float[2,3] y) { h = MatMul(x, w) n = RandomNormalLike(h) y = Add(h, n) }"
    )
    row = verify(Edit(scale_weight(2)), on=noisy).rows[1]
    assert row.note == "not compared: RandomNormalLike gives other values on every run"
    assert row.max_error is None


def test_a_model_that_cannot_be_run_is_not_compared() -> None:
    text = (
        '<ir_version: 8, opset_import: ["": 17, "other": 1]> '
        "g (float[4] x) => (float[4] y) { y = other.F(x) }"
    )

    def rename(model: Model) -> None:
        model.graph.nodes[0].name = "n"

    row = verify(Edit(rename), on=Model(onnx.parser.parse_model(text))).rows[1]
    assert row.note.startswith("not compared: model 'g': ONNX Runtime refuses it")


def test_bound_shapes_are_compared_on_the_bound_shape() -> None:
    watcher = verify(Edit(scale_weight(1 + 1e-6)), BindShapes(("x=5,4",)), Edit(scale_weight(1 + 1e-6)))
    assert [r.changed for r in watcher.rows] == [False, True, True, True]
    assert all(r.outputs for r in watcher.rows[1:])
    assert watcher.rows[0].counts.macs * 5 == watcher.rows[3].counts.macs == 60


def test_every_pass_is_compared_with_the_one_before_it() -> None:
    half = Edit(scale_weight(1 + 0.7e-4))
    rows = verify(half, half, half).rows
    assert not any(r.broken for r in rows)


def test_accuracy_of_the_input_and_of_lossy_passes(tmp_path: Path) -> None:
    source = model()
    x = np.random.default_rng(1).standard_normal((50, 4)).astype(np.float32)
    label = np.maximum(x @ weight(source), 0).argmax(axis=1)
    np.savez(tmp_path / "e.npz", x=x, label=label)
    data = Samples(tmp_path / "e.npz")
    watcher = VerifyWatcher(Feeds(samples=data), Evaluator(data))
    verify(Edit(scale_weight(1 + 1e-6)), Edit(scale_weight(-1), Lossy("sign")), on=source, watcher=watcher)
    first, exact, lossy = [r.score for r in watcher.rows]
    assert first and first.value == 1 and exact is None
    assert lossy and lossy.value < 0.5


def test_samples_that_do_not_fit_are_an_error(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="has no array for the input 'x'"):
        verify(Edit(scale_weight(2)), watcher=VerifyWatcher(Feeds({"z": np.zeros((1, 4), np.float32)})))


def test_fingerprint_is_of_the_content() -> None:
    a, b = model(), model()
    assert fingerprint(a) == fingerprint(b)
    b.view.nodes[0].inputs[1].values = weight(b)
    assert fingerprint(a) == fingerprint(b) and not a.changed and not b.changed
    b.view.nodes[0].inputs[1].values = weight(b) + np.float32(1)
    assert fingerprint(a) != fingerprint(b)
