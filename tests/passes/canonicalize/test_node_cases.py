"""ONNX's own node tests: canonicalize never fails, and changes the outputs of none that ONNX Runtime runs."""

from __future__ import annotations

from typing import Any

import numpy as np
import onnx
import pytest

from optc.models.model import Model
from optc.passes.base import Context
from optc.passes.canonicalize.canonicalize import Canonicalize

REFUSED_LATER = {
    # They give Range a vector of one, made in an If; ONNX Runtime refuses that once the If is gone.
    "test_affine_grid_2d_expanded",
    "test_affine_grid_2d_align_corners_expanded",
}


def cases() -> list[Any]:
    from onnx.backend.test.case.node import collect_testcases

    with np.errstate(all="ignore"):
        return sorted(collect_testcases(None), key=lambda case: case.name)


def run(proto: onnx.ModelProto, inputs: list[Any]) -> dict[str, Any]:
    import onnxruntime as ort

    options = ort.SessionOptions()
    options.log_severity_level = 4
    options.intra_op_num_threads = 1
    options.graph_optimization_level = ort.GraphOptimizationLevel.ORT_DISABLE_ALL
    session = ort.InferenceSession(proto.SerializeToString(), options, ["CPUExecutionProvider"])
    feeds = {i.name: value for i, value in zip(session.get_inputs(), inputs, strict=False)}
    return dict(zip([o.name for o in session.get_outputs()], session.run(None, feeds), strict=True))


def check_case(case: Any) -> bool:
    """Canonicalize once and twice; whether ONNX Runtime could run it before."""
    model = Model(case.model)
    Canonicalize().run(model, Context())
    result = model.to_proto()
    assert not Canonicalize().run(Model(result), Context()), f"{case.name}: not idempotent"
    inputs = [v if isinstance(v, list) or v is None else np.asarray(v) for v in case.data_sets[0][0]]
    try:
        before = run(case.model, inputs)
    except Exception:  # no kernel, or an input that is no tensor
        return False
    if case.name in REFUSED_LATER or "bernoulli" in case.name:
        return True
    after = run(result, inputs)
    assert list(after) == list(before), case.name
    for name, value in before.items():
        same(value, after[name], case.name)
    return True


def same(a: Any, b: Any, name: str) -> None:
    if isinstance(a, list):
        assert len(a) == len(b), name
        for x, y in zip(a, b, strict=True):
            same(x, y, name)
        return
    if not isinstance(a, np.ndarray):
        assert a == b, name
        return
    assert (a.dtype, a.shape) == (b.dtype, b.shape), name
    if a.dtype.kind == "f":
        loose = a.dtype == np.float16
        np.testing.assert_allclose(
            b, a, rtol=1e-2 if loose else 1e-5, atol=2e-3 if loose else 1e-6, err_msg=name
        )
    else:
        np.testing.assert_array_equal(a, b, err_msg=name)


def sweep(step: int, start: int = 0) -> tuple[int, int]:
    chosen = cases()[start::step]
    return sum(check_case(case) for case in chosen), len(chosen)


def test_every_eighth() -> None:
    ran, chosen = sweep(8)
    assert ran > 0.7 * chosen


@pytest.mark.slow
def test_all() -> None:
    ran, chosen = sweep(1)
    assert ran > 1500 and chosen > 1800
