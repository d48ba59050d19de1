"""The guard: does it take back what is slower, and keep what is faster?

    python benchmarks/guard.py      measure, write results/guard.json

Each pass runs on a canonical network twice: without the guard, to measure the model beside the one before in
ONNX Runtime, and with it. EfficientNet-Lite0 needs `python -m optc.models.zoo.fetch efficientnet-lite0`.
Bars, for each row: where the pass makes the model take at least as long (`SLOWER`), it is rolled back; where
it takes clearly less (`FASTER`), it stays; between them either is right. Exit status 1 where a bar fails.
"""

from __future__ import annotations

import statistics
import sys
from typing import Any

from common import header, write

from optc.models.errors import OptcError
from optc.models.model import Model
from optc.models.source import open_source
from optc.passes.base import Context
from optc.passes.pipeline import Pipeline
from optc.passes.registry import parse_passes
from optc.passes.verify.guard import GuardWatcher
from optc.passes.verify.measure import measure

ROWS = (
    ("fashion-resnet", "quantize"),
    ("fashion-resnet", "quantize{activations=int8}"),
    ("fashion-resnet", "prune{sparsity=0.5}"),
    ("fashion-resnet", "prune-channels"),
    ("efficientnet-lite0", "quantize{samples=8}"),
    ("efficientnet-lite0", "quantize{scales=pow2,samples=8}"),
)
ROUNDS = 9
SLOWER, FASTER = 1.0, 0.9


def ratio(before: Model, after: Model) -> float:
    """The median share of the time of `before` that `after` takes, over interleaved rounds."""
    found = [measure(after).ratio(measure(before)) for _ in range(ROUNDS)]
    return statistics.median(r for r in found if r is not None)


def row(name: str, pipeline: str) -> dict[str, Any]:
    """What a pass makes of a network's time, and what the guard says to it."""
    source = open_source(f"zoo:{name}")
    Pipeline(parse_passes("canonicalize")).run(source.model, Context())
    plain, guarded = source.model.copy(), source.model.copy()
    passes, context = parse_passes(pipeline), Context(calibration=source.calibration)
    Pipeline(passes).run(plain, context)
    (step,) = Pipeline(passes).run(guarded, context, [GuardWatcher(measure)])
    found = round(ratio(source.model, plain), 3)
    wanted = "rolled back" if found >= SLOWER else "kept" if found <= FASTER else "either"
    guard = "rolled back" if step.rolled_back else "kept"
    return {"network": name, "pass": pipeline, "ratio": found, "guard": guard, "wanted": wanted} | (
        {"why": step.rolled_back} if step.rolled_back else {}
    )


def main() -> int:
    """Measure every row."""
    head = header(["optc", "onnxruntime", "numpy"], {})
    rows: list[dict[str, Any]] = []
    for name, pipeline in ROWS:
        try:
            rows.append(row(name, pipeline))
        except OptcError as error:
            rows.append({"network": name, "pass": pipeline, "error": str(error)})
        print(rows[-1], flush=True)
    bars = {
        f"{r['network']}, {r['pass']}": r.get("wanted") in ("either", r.get("guard")) and "error" not in r
        for r in rows
    }
    write("guard", head, rows, bars)
    return 0 if all(bars.values()) else 1


if __name__ == "__main__":
    sys.exit(main())
