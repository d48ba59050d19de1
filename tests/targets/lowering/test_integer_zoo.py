"""The integer part of every zoo network on `cpu`, code by code against the reference."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from parts import integer_part, quantized

from optc.targets.cpu import Cpu

POW2 = {"scales": "pow2", "rounding": "half_up", "residual": "accumulator"}


@pytest.mark.parametrize("options", [{}, POW2, {"activations": "int8", "per_channel": False}])
@pytest.mark.parametrize(
    "name",
    [
        pytest.param("fashion-resnet"),
        *(
            pytest.param(name, marks=pytest.mark.slow)
            for name in (
                "resnet18-v1",
                "resnet50-v1",
                "resnet18-v2",
                "mobilenet-v2",
                "inception",
                "unet",
                "bert-encoder",
                "gpt-decoder",
            )
        ),
    ],
)
def test_equal(name: str, options: dict[str, str], tmp_path: Path) -> None:
    model, feeds = quantized(name, tmp_path, **options)
    part, given, wanted = integer_part(model, feeds)
    (tmp_path / "a").mkdir()
    artifact = Cpu().build(part, tmp_path / "a")
    assert not [p for p in artifact.placement if not p.integer]
    found = artifact.run(given)
    for output, codes in wanted.items():
        np.testing.assert_array_equal(found[output], codes, err_msg=output)
