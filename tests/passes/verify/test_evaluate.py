"""Accuracy on labelled samples, and its intervals."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from optc.models.data import Samples
from optc.models.errors import InputError
from optc.models.model import Model
from optc.passes.verify.evaluate import Evaluator
from optc.passes.verify.metrics import METRICS, PER_SAMPLE, change, f1_score, mean_score, paired_test, wilson


def identity(shape: str = "N,10", dtype: str = "float") -> Model:
    return Model(
        onnx.parser.parse_model(
            f'<ir_version: 8, opset_import: ["": 17]> g ({dtype}[{shape}] x) => ({dtype}[{shape}] y) '
            "{ y = Identity(x) }"
        )
    )


def samples(folder: Path, **arrays: np.ndarray) -> Samples:
    np.savez(folder / "eval.npz", **arrays)
    return Samples(folder / "eval.npz")


def scored(count: int, classes: int, right: int) -> dict[str, np.ndarray]:
    """Scores of which exactly `right` rows are highest at their label."""
    label = np.arange(count) % classes
    chosen = np.where(np.arange(count) < right, label, (label + 1) % classes)
    return {"x": np.eye(classes, dtype=np.float32)[chosen], "label": label}


@pytest.mark.parametrize("shape", ["N,10", "7,10"])
def test_top1_counts_every_sample_once(tmp_path: Path, shape: str) -> None:
    score = Evaluator(samples(tmp_path, **scored(150, 10, 120)))(identity(shape))
    assert (score.metric, score.value, score.samples) == ("top1", 0.8, 150)
    assert score.low < 0.8 < score.high


def test_top5(tmp_path: Path) -> None:
    data = samples(tmp_path, x=np.arange(20, dtype=np.float32).reshape(2, 10), label=np.array([5, 4]))
    assert Evaluator(data, "top5")(identity()).value == 0.5
    assert Evaluator(data, "top1")(identity()).value == 0


def test_scores_for_every_pixel() -> None:
    output = np.zeros((2, 3, 2, 2), np.float32)
    output[:, 1] = 1
    labels = np.ones((2, 2, 2), np.int64)
    labels[1, 0, 0] = 0
    assert PER_SAMPLE["top1"](output, labels).tolist() == [1.0, 0.75]


def test_scores_for_every_token_and_classes_themselves() -> None:
    output = np.eye(4, dtype=np.float32)[None]  # 1 sample, 4 tokens, 4 classes
    assert PER_SAMPLE["top1"](output, np.array([[0, 1, 2, 0]])).tolist() == [0.75]
    assert PER_SAMPLE["top1"](np.array([[3], [1]]), np.array([3, 2])).tolist() == [1.0, 0.0]


def test_mse_and_cosine() -> None:
    a, b = np.array([[1.0, 0.0], [0.0, 2.0]]), np.array([[1.0, 2.0], [0.0, 1.0]])
    assert PER_SAMPLE["mse"](a, b).tolist() == [2.0, 0.5]
    assert PER_SAMPLE["cosine"](a, b) == pytest.approx([1 / np.sqrt(5), 1.0])


def test_f1_is_the_mean_over_classes() -> None:
    chosen, labels = np.array([0, 0, 1, 1]), np.array([0, 1, 1, 1])
    score = f1_score(chosen, labels)
    assert score.value == pytest.approx((2 / 3 + 4 / 5) / 2)
    assert score.low <= score.value <= score.high
    assert f1_score(chosen, labels) == score


@pytest.mark.parametrize("metric", METRICS)
def test_every_metric_runs(tmp_path: Path, metric: str) -> None:
    rng = np.random.default_rng(0)
    x = rng.standard_normal((70, 10), np.float32)
    label = x + 0.1 if metric in ("mse", "cosine") else x.argmax(axis=1)
    score = Evaluator(samples(tmp_path, x=x, label=label), metric)(identity())
    assert score.value == pytest.approx(0.01 if metric == "mse" else 1, abs=0.01)


@pytest.mark.parametrize("label", [10, -1])
@pytest.mark.parametrize("metric", ["top1", "top5"])
def test_a_label_that_is_no_class(tmp_path: Path, metric: str, label: int) -> None:
    data = samples(tmp_path, x=np.ones((3, 10), np.float32), label=np.array([0, 9, label]))
    with pytest.raises(InputError, match=f"label {label} is no class: .* has 10, from 0 on"):
        Evaluator(data, metric)(identity())


def test_wilson_against_published_values() -> None:
    # 81 of 263: Newcombe 1998, table I, method 3.
    assert wilson(81 / 263, 263) == pytest.approx((0.2553, 0.3662), abs=5e-5)
    assert wilson(0.0, 20) == pytest.approx((0.0, 0.1611), abs=5e-5)


@given(st.integers(1, 500), st.integers(0, 500))
def test_wilson_holds_the_share(count: int, hits: int) -> None:
    share = min(hits, count) / count
    low, high = wilson(share, count)
    assert 0 <= low <= share + 1e-12 and share - 1e-12 <= high <= 1


def test_other_means_take_the_normal_interval() -> None:
    score = mean_score("mse", np.array([0.5, 1.5, 0.5, 1.5]))
    half = 1.959964 * np.std([0.5, 1.5, 0.5, 1.5], ddof=1) / 2
    assert (score.low, score.high) == pytest.approx((1 - half, 1 + half))


def test_a_model_is_scored_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    evaluator = Evaluator(samples(tmp_path, **scored(20, 10, 20)))
    first = evaluator(identity())
    monkeypatch.setattr(evaluator, "score", None)
    assert evaluator(identity()) is first


def test_progress_counts_batches(tmp_path: Path) -> None:
    shown: list[tuple[str, int | None]] = []

    class Bar:
        def track(self, items: Any, description: str, total: int | None = None) -> Any:
            found = list(items)
            shown.append((description, len(found)))
            assert total == len(found)
            return iter(found)

    Evaluator(samples(tmp_path, **scored(150, 10, 120)), progress=Bar())(identity())
    for length in (70, 80):
        np.savez(tmp_path / f"{length}.npz", **scored(length, 10, length))
    Evaluator(Samples(tmp_path), "f1", Bar())(identity("N,M"))
    Evaluator(Samples(tmp_path), progress=Bar())(identity("7,10"))
    assert shown == [("top1 on eval.npz", 3), (f"f1 on {tmp_path.name}", 5), (f"top1 on {tmp_path.name}", 43)]


def test_f1_of_samples_of_different_shapes() -> None:
    chosen, labels = np.array([0, 0, 1, 1, 2]), np.array([0, 1, 1, 1, 2])
    cut = [2, 3]
    parts = f1_score(np.split(chosen, cut), np.split(labels, cut))
    assert parts.value == f1_score(chosen, labels).value and parts.samples == 3


def test_errors(tmp_path: Path) -> None:
    data = samples(tmp_path, x=np.zeros((4, 10), np.float32))
    with pytest.raises(InputError, match="unknown metric 'top2'; did you mean 'top"):
        Evaluator(data, "top2")
    with pytest.raises(InputError, match="has no array 'label'"):
        Evaluator(data)
    with pytest.raises(InputError, match=r"labels of shape \[4, 3\] do not fit"):
        Evaluator(samples(tmp_path, x=np.zeros((4, 10), np.float32), label=np.zeros((4, 3), int)))(identity())
    with pytest.raises(InputError, match="labels are float64; this metric needs class numbers"):
        Evaluator(samples(tmp_path, x=np.zeros((4, 10), np.float32), label=np.zeros(4)))(identity())
    with pytest.raises(InputError, match="do not fit"):
        PER_SAMPLE["top1"](np.zeros((4, 1), np.float32), np.zeros(4, int))


HITS = hnp.arrays(np.bool_, st.integers(1, 60))


@given(HITS, st.randoms())
def test_the_paired_test_is_symmetric_and_a_probability(before: np.ndarray, random: Any) -> None:
    after = np.array([random.random() < 0.5 for _ in before])
    p = paired_test(before, after)
    assert 0 < p <= 1
    assert p == paired_test(after, before)
    assert paired_test(before, before) == 1


def test_the_paired_test_as_a_table_has_it() -> None:
    before = np.array([True] * 90 + [False] * 10)
    after = before.copy()
    after[:8], after[-1] = False, True
    assert paired_test(before, after) == pytest.approx(2 * (1 + 9) / 2**9)  # 1 of 9 went the other way


SCORES = hnp.arrays(np.float64, st.integers(2, 40), elements=st.floats(-5, 5))


@given(SCORES, st.randoms())
def test_a_change_turns_around_with_its_arguments(before: np.ndarray, random: Any) -> None:
    after = before + np.array([random.choice([-1.0, 0.0, 0.5]) for _ in before])
    a, b = mean_score("mse", before), mean_score("mse", after)
    there, back = change(a, b), change(b, a)
    assert there is not None and back is not None
    assert there.low <= there.mean <= there.high and 0 <= there.p <= 1
    assert there.mean == pytest.approx(-back.mean) and there.p == pytest.approx(back.p)
    assert there.mean == pytest.approx(b.value - a.value)


def test_hits_are_compared_by_the_exact_test() -> None:
    before, after = np.ones(100), np.ones(100)
    after[:5] = 0
    found = change(mean_score("top1", before), mean_score("top1", after))
    assert found is not None and found.mean == pytest.approx(-0.05)
    assert found.p == pytest.approx(2 / 2**5)
    assert change(mean_score("top1", before), mean_score("top1", after[1:])) is None
