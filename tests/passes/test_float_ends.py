"""Ends of a smaller float type, fed and read as float32; those of codes are in test_integer_ends.py."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest

from optc.models.data import Samples
from optc.models.model import Model
from optc.models.session import Session
from optc.passes.base import Context
from optc.passes.convert_floats.convert_floats import ConvertFloats
from optc.passes.float_ends import decoded, encoded, ends_of, with_float_ends
from optc.passes.pipeline import Pipeline
from optc.passes.verify.feeds import Feeds
from optc.passes.verify.watcher import VerifyWatcher

TEXT = """<ir_version: 10, opset_import: ["" : 21]> g (float[N,2] x, int64[1] i) => (float[N,2] y, int64[1] k)
<float[2,2] w = {1.5, -2.25, 0.5, 3}> { y = MatMul (x, w) k = Neg(i) }"""

X = np.random.default_rng(0).standard_normal((3, 2)).astype(np.float32)


@pytest.mark.parametrize("to", ["float16", "bfloat16"])
def test_small_ends_are_verified_as_float32(tmp_path: Path, to: Any) -> None:
    np.savez(tmp_path / "x.npz", x=X, i=np.ones((3, 1), np.int64))
    context = Context(calibration=Samples(tmp_path / "x.npz"))
    model = Model(onnx.parser.parse_model(TEXT.replace("int64[1]", "int64[N,1]")))
    watcher = VerifyWatcher(Feeds(samples=context.calibration))
    p = ConvertFloats(to=to, ends="converted")
    Pipeline((p, p)).run(model, context, watchers=[watcher])
    assert [r.changed for r in watcher.rows] == [False, True, False]
    assert watcher.rows[1].snr_db is not None and watcher.rows[1].snr_db > (55 if to == "float16" else 40)
    assert set(ends_of(model)) == {"x", "y"}
    floats = with_float_ends(model)
    onnx.checker.check_model(floats.to_proto(), full_check=True)
    assert [t.name for t in floats.view.inputs] == ["x", "i"]
    assert [t.name for t in floats.view.outputs] == ["y", "k"]


def test_encoded_and_decoded() -> None:
    model = Model(onnx.parser.parse_model(TEXT))
    ConvertFloats(ends="converted").run(model, Context())
    feeds = encoded(model, {"x": X, "i": np.array([3])})
    assert feeds["x"].dtype == np.float16 and feeds["i"].dtype == np.int64
    found = Session(model).run(feeds)
    assert found["y"].dtype == np.float16
    (wanted, _) = Session(with_float_ends(model)).run({"x": X, "i": np.array([3])}).values()
    np.testing.assert_array_equal(decoded(model, found)["y"], wanted)


def test_names_of_the_nodes_between_are_new() -> None:
    """ONNX Runtime takes no two nodes of one name."""
    text = TEXT.replace("y = MatMul", "[y_Cast] y = MatMul").replace("k = Neg", "[x_codes_Cast] k = Neg")
    model = Model(onnx.parser.parse_model(text))
    ConvertFloats(ends="converted").run(model, Context())
    Session(with_float_ends(model)).run({"x": X, "i": np.array([3])})
