"""Peak memory of calibration: ResNet-50 at 224 x 224, 32 images beside 500.

    python benchmarks/calibration_memory.py      measure, write results/calibration_memory.json

Each calibration method runs in a child process by itself. Bar: the peak resident memory with 500 images is
within 10% of that with 32. Exit status 1 where it is not.
"""

from __future__ import annotations

import resource
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

import numpy as np
from common import header, write

from optc.models.data import Samples
from optc.models.source import open_source
from optc.passes.base import Context
from optc.passes.pipeline import Pipeline
from optc.passes.registry import parse_passes

NETWORK = "resnet50-v1"
COUNTS = (32, 500)
METHODS = ("minmax", "percentile", "entropy", "mse")


def calibrate(method: str, path: str) -> None:
    """The child's work: quantize the network with the images of `path`; prints its peak memory in MiB."""
    model = open_source(f"zoo:{NETWORK}").model
    passes = parse_passes(f"canonicalize,quantize{{calibration={method}}}")
    Pipeline(passes).run(model, Context(calibration=Samples(path)))
    print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024)


def images(path: Path, count: int) -> None:
    """Write `count` random images of the network's input."""
    (tensor,) = open_source(f"zoo:{NETWORK}").model.view.inputs
    rng = np.random.default_rng(0)
    arrays: dict[str, Any] = {tensor.name: rng.standard_normal((count, 3, 224, 224), np.float32)}
    np.savez(path, **arrays)


def main() -> int:
    """Measure every method with few and with many images."""
    if len(sys.argv) > 1:
        calibrate(*sys.argv[1:3])
        return 0
    head = header(["optc", "onnxruntime", "numpy"], {"images": 0})
    rows: list[dict[str, Any]] = []
    with tempfile.TemporaryDirectory() as folder:
        paths = {count: Path(folder) / f"{count}.npz" for count in COUNTS}
        for count, path in paths.items():
            images(path, count)
        for method in METHODS:
            found: dict[int, float] = {}
            for count, path in paths.items():
                done = subprocess.run(
                    [sys.executable, __file__, method, str(path)], capture_output=True, text=True, check=True
                )
                found[count] = float(done.stdout.split()[-1])
            few, many = (round(found[count]) for count in COUNTS)
            rows.append({"method": method, "mib_32": few, "mib_500": many, "ratio": round(many / few, 4)})
            print(rows[-1], flush=True)
    bars = {f"{r['method']}: 500 images within 10% of 32": r["ratio"] <= 1.1 for r in rows}
    write("calibration_memory", head, rows, bars)
    return 0 if all(bars.values()) else 1


if __name__ == "__main__":
    sys.exit(main())
