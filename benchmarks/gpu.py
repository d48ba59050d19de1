"""The `cuda` target on a GPU: first whether its outputs are right, then how long they take.

    python benchmarks/gpu.py            build, check and time every model; write results/gpu.json
    python benchmarks/gpu.py --build F  only build into F, with inputs and expected outputs (no GPU needed)
    python benchmarks/gpu.py --from F   check and time what was built into F, on a machine without a compiler
    python benchmarks/gpu.py --check    run again and say which bar holds; write nothing

Expected outputs are ONNX Runtime's on the CPU, graph optimizations off, on the same model file; those of
quantized models the integer reference's. The bar: every model within the float32 tolerance of the contract
`Exact`, and bit for bit where only integers lead to an output. Models that were not fetched are listed as
skipped. Exit status 1 where a model fails, 3 without a GPU.
"""

from __future__ import annotations

import argparse
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

import numpy as np
from common import header, write

import optc
from optc.models.errors import MissingError, OptcError
from optc.models.session import Session
from optc.passes.base import Exact, Lossy
from optc.passes.quantize.integer.execute import run_reference
from optc.passes.verify.compare import compare
from optc.passes.verify.inputs import generate_runnable
from optc.targets.bench import interleaved
from optc.targets.owed import contracts

MODELS = {
    **{
        n: "standard"
        for n in ("fashion-resnet", "squeezenet1.1", "efficientnet-lite0", "resnet18-v1", "minilm")
    },
    "fashion-resnet int8": "standard,quantize",
    "efficientnet-lite0 int8": "standard,quantize",
    "fashion-resnet pow2": "standard,quantize{scales=pow2,rounding=half_up,residual=accumulator}",
}
"""Pipelines, by the network's name and what is done to it."""

ARCHS = "cuda{arch=[sm_80,sm_90]}"
SEED = 0

Row = dict[str, Any]


def build(folder: Path) -> list[Row]:
    """Artifacts, inputs and expected outputs for every model; rows of those that could not be built."""
    failed: list[Row] = []
    for name, pipeline in MODELS.items():
        print(f"building {name}", file=sys.stderr)
        network = name.partition(" ")[0]
        try:
            artifact = optc.compile(f"zoo:{network}", ARCHS, pipeline, out=folder / name, seed=SEED).artifact
        except MissingError as error:
            failed.append({"model": name, "skipped": str(error)})
            continue
        except OptcError as error:
            failed.append({"model": name, "failed": str(error)})
            continue
        session = Session(artifact.model)
        feeds = generate_runnable(artifact.model, session, SEED)
        np.savez(folder / f"{name}.inputs.npz", **feeds)  # type: ignore[arg-type]
        quantized = any(p.integer for p in artifact.placement)
        expected = run_reference(artifact.model, feeds) if quantized else session.run(feeds)
        np.savez(folder / f"{name}.expected.npz", **expected)  # type: ignore[arg-type]
    return failed


def measure(folder: Path) -> list[Row]:
    """One row a built model: correct or not, and seconds of a run (host to host, copies included)."""
    return [_row(folder, name) for name in MODELS if (folder / name).is_dir()]


def _row(folder: Path, name: str) -> Row:
    artifact = optc.load(folder / name)
    with np.load(folder / f"{name}.inputs.npz") as file:
        feeds = dict(file)
    with np.load(folder / f"{name}.expected.npz") as file:
        expected = dict(file)
    row: Row = {"model": name, "islands": sum(p.where == "island" for p in artifact.placement)}
    runner = artifact.runner()
    try:
        found, owed = runner.run(feeds), contracts(artifact, Exact(), Lossy("rounding"))
        differences = [d for n in expected for d in compare({n: expected[n]}, {n: found[n]}, owed[n])]
    except OptcError as error:
        return row | {"failed": str(error)}
    row["max_error"] = max(d.max_error for d in differences)
    broken = [f"{d.output} {d.broken}" for d in differences if d.broken]
    if broken:
        return row | {"failed": "; ".join(broken)}
    session = Session(artifact.model, optimize=True)
    times = interleaved({"optc": lambda: runner.run(feeds), "onnxruntime": lambda: session.run(feeds)})
    medians = {k: float(np.median(v)) for k, v in times.items()}
    return row | {
        "seconds": medians,
        "ratio_to_onnxruntime_cpu": medians["optc"] / medians["onnxruntime"],
        "runs": len(times["optc"]),
    }


def gpu_name() -> str:
    """Name and driver of GPU 0, as NVIDIA's driver tells them."""
    query = ["nvidia-smi", "--query-gpu=name,driver_version", "--format=csv,noheader"]
    return subprocess.run(query, capture_output=True, text=True, check=True).stdout.splitlines()[0]


def main() -> int:
    """Run as the module's docstring says."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--build", type=Path, metavar="FOLDER")
    parser.add_argument("--from", type=Path, metavar="FOLDER", dest="source")
    parser.add_argument("--check", action="store_true")
    options = parser.parse_args()
    if options.build:
        failed = build(options.build)
        print(*(f"{r['model']}: {r.get('failed') or r.get('skipped')}" for r in failed), sep="\n")
        return int(any("failed" in r for r in failed))
    with tempfile.TemporaryDirectory() as temporary:
        folder = options.source or Path(temporary)
        rows = [] if options.source else build(folder)
        try:
            rows += measure(folder)
        except MissingError as error:
            print(f"gpu: {error}", file=sys.stderr)
            return error.exit_status
    holds = not any("failed" in r for r in rows)
    print(*rows, sep="\n")
    print(f"every model right: {'holds' if holds else 'FAILS'}")
    if not options.check:
        packages = ("optc", "apache-tvm", "onnx", "onnxruntime", "numpy")
        head = header(packages, {"inputs": SEED}) | {"gpu": gpu_name()}
        write("gpu", head, rows, {"every model right": holds})
    return int(not holds)


if __name__ == "__main__":
    sys.exit(main())
