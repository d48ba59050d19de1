"""Samples that models are checked and scored on are looked at first."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx
import pytest

from optc.models.data import Samples
from optc.models.errors import InputError
from optc.models.model import Model
from optc.passes.verify.feeds import check_samples

TEXT = '<ir_version: 8, opset_import: ["": 17]> g (float[N,M] x) => (float[N,M] y) { y = Relu(x) }'


def test_nan_is_found_in_the_sample_of_its_file(tmp_path: Path) -> None:
    x = np.zeros((100, 3), np.float32)
    np.savez(tmp_path / "a.npz", x=x)
    x[70, 1] = np.nan
    np.savez(tmp_path / "b.npz", x=x)
    model = Model(onnx.parser.parse_model(TEXT))
    for path in (tmp_path, tmp_path / "b.npz"):
        with pytest.raises(InputError, match="calibration .*b.npz: array 'x' holds .* in sample 70; clean"):
            check_samples(model, Samples(path), "calibration")
    check_samples(model, Samples(tmp_path / "a.npz"), "calibration")
