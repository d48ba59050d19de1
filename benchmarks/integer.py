"""Quantized networks on `cpu`: do they agree with the integer reference, and how fast?

    python benchmarks/integer.py            measure and write results/integer.json
    python benchmarks/integer.py --check    measure and say whether the bar holds; write nothing

Networks of the zoo that bring calibration data, quantized in three ways, on the first samples of that data.
`agrees`: every output that only integers lead to is the reference's bit for bit, one behind float nodes (a
Softmax at the end) within the float tolerance. Times are of one sample, beside the float artifact and
ONNX Runtime on the same quantized model, taken in turn. The bar: every network agrees. Networks that were
not fetched are listed as skipped. Exit status 1 where a network differs.
"""

from __future__ import annotations

import argparse
import sys
import tempfile
from pathlib import Path
from typing import Any

import numpy as np
from common import header, write

import optc
from optc.models.errors import MissingError
from optc.models.session import Session
from optc.models.zoo import zoo_entry
from optc.passes.base import Lossy
from optc.passes.quantize.integer.execute import run_reference
from optc.passes.verify.compare import compare
from optc.targets.agreement import FLOAT, breach
from optc.targets.artifact import Artifact
from optc.targets.bench import interleaved
from optc.targets.owed import contracts

MODELS = ("fashion-resnet", "squeezenet1.1", "efficientnet-lite0", "mnist-tf")
OPTIONS = (
    "quantize",
    "quantize{scales=pow2,rounding=half_up,residual=accumulator}",
    "quantize{activations=int8,per_channel=false}",
)
SEED = 0
SAMPLES = 2

Row = dict[str, Any]


def measure(name: str, folder: Path) -> list[Row]:
    """A row for each way to quantize."""
    try:
        entry = zoo_entry(name)
        float_artifact = optc.compile(f"zoo:{name}", "cpu", seed=SEED, out=folder / "float").artifact
    except MissingError as error:
        return [{"model": name, "skipped": str(error)}]
    assert entry.calibration is not None
    with np.load(entry.calibration) as file:
        names = [i["name"] for i in float_artifact.manifest["inputs"]]
        feeds = {n: file[n][:SAMPLES] for n in names}
    rows: list[Row] = []
    for index, options in enumerate(OPTIONS):
        out = folder / str(index)
        artifact = optc.compile(f"zoo:{name}", "cpu", f"standard,{options}", seed=SEED, out=out).artifact
        rows.append(
            {"model": name, "pass": options}
            | _compared(artifact, feeds)
            | _timed(artifact, float_artifact, feeds)
        )
        print(rows[-1], flush=True)
    return rows


def _fits(artifact: Artifact, feeds: dict[str, Any]) -> dict[str, Any]:
    """As many samples as a fixed batch takes."""
    sizes = {i["name"]: i["shape"][0] for i in artifact.manifest["inputs"]}
    return {n: a[: sizes[n]] if isinstance(sizes[n], int) else a for n, a in feeds.items()}


def _compared(artifact: Artifact, feeds: dict[str, Any]) -> Row:
    feeds = _fits(artifact, feeds)
    found, wanted = artifact.run(feeds), run_reference(artifact.model, feeds)
    theirs = Session(artifact.model).run(feeds)
    snr = min(d.snr_db for d in compare(theirs, found, Lossy("rounding")))
    placement, owed = artifact.placement, contracts(artifact, FLOAT, Lossy("rounding"))
    faults = [
        d for n in wanted for d in compare({n: wanted[n]}, {n: found[n]}, owed[n]) if breach([d], owed[n])
    ]
    return {
        "agrees": not any(faults),
        "equal_outputs": sum(np.array_equal(found[n], wanted[n]) for n in wanted),
        "outputs": len(wanted),
        "integer_nodes": sum(p.integer for p in placement),
        "float_nodes": sum(p.float_reason is not None for p in placement),
        "snr_to_onnxruntime_db": snr if np.isfinite(snr) else "exact",
    }


def _timed(artifact: Artifact, float_artifact: Artifact, feeds: dict[str, Any]) -> Row:
    one = {n: a[:1] for n, a in feeds.items()}
    integer, floats = artifact.runner(), float_artifact.runner()
    session = Session(artifact.model, optimize=True)
    times = interleaved(
        {
            "integer": lambda: integer.run(one),
            "float": lambda: floats.run(one),
            "onnxruntime": lambda: session.run(one),
        }
    )
    median = {n: float(np.median(t)) for n, t in times.items()}
    return {
        "seconds": median["integer"],
        "ratio_to_float_artifact": median["integer"] / median["float"],
        "ratio_to_onnxruntime": median["integer"] / median["onnxruntime"],
        "runs": len(times["integer"]),
    }


def main() -> int:
    """Run as the module's docstring says."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--check", action="store_true")
    options = parser.parse_args()
    rows: list[Row] = []
    for name in MODELS:
        with tempfile.TemporaryDirectory() as folder:
            rows += measure(name, Path(folder))
    holds = all(row.get("agrees", True) for row in rows)
    print(f"every network agrees with the reference: {'holds' if holds else 'FAILS'}")
    if not options.check:
        packages = ("optc", "apache-tvm", "onnx", "onnxruntime", "numpy")
        write("integer", header(packages, {"compile": SEED}), rows, {"every network agrees": holds})
    return int(not holds)


if __name__ == "__main__":
    sys.exit(main())
