"""What onnxsim's quantizers and structured pruning make of a model: a peer of `benchmarks/compression.py`.

Every method runs in a process of its own, so that one that hangs or dies is a row and no more:

    python benchmarks/compression_onnxsim.py METHOD MODEL SAMPLES RESULT
"""

from __future__ import annotations

import subprocess
import sys
import tempfile
import warnings
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import onnx
from compression_onnxsim_methods import find_method

from optc.models.data import Samples
from optc.models.model import Model

TIMEOUT = 200
"""Seconds that a method may take."""


def apply(method: str, model: Model, samples: Samples | None) -> Model:
    """`model` by a method of onnxsim, on its own random data where `samples` is None.

    Raises `RuntimeError` with the last line of what it said where it fails.
    """
    with tempfile.TemporaryDirectory() as folder:
        source, target = Path(folder) / "float.onnx", Path(folder) / "result.onnx"
        model.save(source)
        data = str(samples.path) if samples else ""
        command = [sys.executable, __file__, method, str(source), data, str(target)]
        try:
            done = subprocess.run(command, capture_output=True, text=True, timeout=TIMEOUT, check=False)
        except subprocess.TimeoutExpired:
            raise RuntimeError(f"takes more than {TIMEOUT} s") from None
        if done.returncode or not target.is_file():
            lines = done.stderr.strip().splitlines() or [f"exit status {done.returncode}"]
            raise RuntimeError(lines[-1][:200])
        return Model(onnx.load(target))


def _feeds(model: onnx.ModelProto, samples: Samples) -> Iterator[dict[str, Any]]:
    constants = {t.name for t in model.graph.initializer}
    names = [i.name for i in model.graph.input if i.name not in constants]
    for batch in samples.batches(names, 1):
        yield {name: np.array(array) for name, array in batch.items()}


def main() -> None:
    """Run one method on one model."""
    method, source, samples, target = sys.argv[1:]
    warnings.simplefilter("ignore")
    model = onnx.load(source)
    feeds = list(_feeds(model, Samples(samples))) if samples else None
    onnx.save(find_method(method)(model, feeds), target)


if __name__ == "__main__":
    main()
