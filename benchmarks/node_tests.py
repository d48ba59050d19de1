"""Which of ONNX's own node tests optc compiles and runs like ONNX Runtime.

    python benchmarks/node_tests.py [--target cpu|cuda] [--only TEXT] [--jobs N] [--bind] [--check]

`--bind` makes constants of all inputs but the first, as real models have them. A case counts where ONNX
Runtime passes it. Each case runs in a worker process, so that a crash is a row. `--target cuda` needs a GPU.
"""

from __future__ import annotations

import argparse
import dataclasses
import multiprocessing
import sys
import tempfile
from collections import Counter
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import onnx
from common import header, write
from numpy.typing import NDArray

Row = dict[str, Any]

TIMEOUT = 60
"""Seconds without a row after which a worker is killed."""


def cases(only: str, bind: bool = False) -> dict[str, Any]:
    """ONNX's node tests by name; with `bind`, only those that have inputs to make constants of."""
    from onnx.backend.test.case.node import collect_testcases

    with np.errstate(all="ignore"):
        found = {c.name: c for c in collect_testcases(None)}
    if bind:
        found = {name: bound for name, c in found.items() if (bound := bound_case(c)) is not None}
    return {name: found[name] for name in sorted(found) if only in name}


def bound_case(case: Any) -> Any:
    """The case with constants in place of all inputs but the first; None where that cannot be."""
    inputs = [i for i in case.model.graph.input if i.name]
    if len(inputs) < 2 or len(case.data_sets) != 1:
        return None
    model = onnx.ModelProto()
    model.CopyFrom(case.model)
    try:
        feeds, outputs = next(arrays(case))
        tensors = [onnx.numpy_helper.from_array(feeds[i.name], i.name) for i in inputs[1:]]
    except (TypeError, KeyError, NotImplementedError, ValueError):
        return None
    del model.graph.input[1:]
    model.graph.initializer.extend(tensors)
    first = next(iter(feeds.values()))
    return dataclasses.replace(case, model=model, data_sets=[([first], outputs)])


def arrays(case: Any) -> Iterator[tuple[dict[str, NDArray[Any]], list[NDArray[Any]]]]:
    """Feeds by input name and expected outputs of each data set; `TypeError` where one is no array."""
    for inputs, outputs in case.data_sets:
        values = [_array(v) for v in inputs]
        names = [i.name for i in case.model.graph.input]
        yield dict(zip(names, values, strict=False)), [_array(v) for v in outputs]


def _array(value: Any) -> NDArray[Any]:
    if isinstance(value, onnx.TensorProto):
        return onnx.numpy_helper.to_array(value)
    if isinstance(value, np.ndarray | np.generic):
        return np.asarray(value)
    raise TypeError(f"a {type(value).__name__} is not an array")


def close(got: NDArray[Any], want: NDArray[Any], rtol: float, atol: float) -> bool:
    """Same dtype and shape, and values equal within the tolerance (strings and integers: equal)."""
    if got.shape != want.shape or (got.dtype != want.dtype and want.dtype.kind not in "OUST"):
        return False
    if want.dtype.kind not in "fc":
        return bool(np.array_equal(got, want))
    return bool(np.allclose(got, want, rtol=rtol, atol=atol, equal_nan=True))


def reference(case: Any) -> str | None:
    """None where ONNX Runtime passes the case, otherwise why it does not count."""
    import onnxruntime as ort

    options = ort.SessionOptions()
    options.log_severity_level = 4
    try:
        session = ort.InferenceSession(case.model.SerializeToString(), options, ["CPUExecutionProvider"])
        for feeds, outputs in arrays(case):
            results = session.run(None, feeds)
            if not all(close(g, w, case.rtol, case.atol) for g, w in zip(results, outputs, strict=True)):
                return "onnxruntime: wrong value"
    except Exception as error:
        return f"onnxruntime: {str(error).splitlines()[0][:120]}"
    return None


def build(model: Any, target: str, folder: Path) -> Any:
    """An artifact of `model` for this machine."""
    from optc.targets.cpu import Cpu
    from optc.targets.cuda.cuda import Cuda, gpu_capability

    return (Cuda((f"sm_{gpu_capability()}",)) if target == "cuda" else Cpu()).build(model, folder)


def optc_row(case: Any, target: str) -> Row:
    """Compile the case, run it, compare it with ONNX Runtime on the same model."""
    from optc.models.model import Model
    from optc.models.session import Session
    from optc.passes.base import Exact
    from optc.passes.verify.compare import compare

    model = Model(case.model)
    with tempfile.TemporaryDirectory() as folder:
        artifact = build(model, target, Path(folder))
        where = {p.where for p in artifact.placement}
        kind = artifact.manifest["program"]["kind"]
        reasons = sorted({p.reason for p in artifact.placement if p.reason})
        row: Row = {"kind": "whole" if kind == "island" else "mixed" if "island" in where else "tvm"}
        row["reasons"] = reasons
        runner, session = artifact.runner(), Session(model)
        for feeds, _ in arrays(case):
            results, wanted = runner.run(feeds), session.run(feeds)
            broken = [d for d in compare(wanted, results, Exact()) if d.broken]
            if broken:
                return row | {"status": "wrong", "detail": broken[0].broken}
    return row | {"status": "ok"}


def worker(names: list[str], bind: bool, target: str, pipe: Any) -> None:
    """Judge the named cases one by one and send a row for each."""
    found = cases("", bind)
    for name in names:
        pipe.send(("start", name))
        case = found[name]
        reason = reference(case)
        row: Row = {"name": name}
        if reason is not None:
            row |= {"status": "not counted", "detail": reason}
        else:
            try:
                row |= optc_row(case, target)
            except Exception as error:
                text = (str(error).splitlines() or [""])[0]
                row |= {"status": "failed", "detail": f"{type(error).__name__}: {text[:200]}"}
        pipe.send(("row", row))


def judge(names: list[str], bind: bool, target: str) -> Iterator[Row]:
    """Rows for the named cases; a worker that dies costs the case that it was at."""
    left = list(names)
    context = multiprocessing.get_context("spawn")
    while left:
        ours, theirs = context.Pipe(duplex=False)
        process = context.Process(target=worker, args=(left, bind, target, theirs))
        process.start()
        theirs.close()
        current, died = left[0], "the process died"
        try:
            while left:
                if not ours.poll(TIMEOUT):
                    died = f"no result in {TIMEOUT} s"
                    process.kill()
                kind, value = ours.recv()
                if kind == "start":
                    current = value
                else:
                    left.remove(value["name"])
                    yield value
        except EOFError:
            left.remove(current)
            yield {"name": current, "status": "crash", "detail": died}
        process.join()


def _judge_all(names: list[str], bind: bool, target: str) -> list[Row]:
    rows = []
    for row in judge(names, bind, target):
        rows.append(row)
        if row["status"] not in ("ok", "not counted"):
            print(row["name"], row["status"], row.get("kind", ""), row["detail"], flush=True)
    return rows


def main() -> int:
    """Run the sweep, print the counts, write the rows; 1 where the bar does not hold."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--target", choices=("cpu", "cuda"), default="cpu")
    parser.add_argument("--only", default="", help="cases whose name holds this text; writes nothing")
    parser.add_argument("--jobs", type=int, default=1)
    parser.add_argument("--bind", action="store_true", help="constants in place of all inputs but the first")
    parser.add_argument("--check", action="store_true", help="write nothing")
    options = parser.parse_args()
    names = list(cases(options.only, options.bind))
    with ThreadPoolExecutor(options.jobs) as pool:
        shares = [names[i :: options.jobs] for i in range(options.jobs)]
        parts = list(pool.map(lambda share: _judge_all(share, options.bind, options.target), shares))
    rows = sorted((r for part in parts for r in part), key=lambda r: str(r["name"]))
    counted = [r for r in rows if r["status"] != "not counted"]
    passed = [r for r in counted if r["status"] == "ok"]
    kinds = dict(Counter(r["kind"] for r in passed))
    print(f"{len(passed)} of {len(counted)} that ONNX Runtime passes ({len(rows)} cases); {kinds}")
    holds = len(passed) == len(counted)
    print(f"bar: all that ONNX Runtime passes: {'holds' if holds else 'does not hold'}")
    if not options.only and not options.check:
        head = header(["onnx", "onnxruntime", "apache-tvm", "numpy"], {})
        bar = {"passed": len(passed), "counted": len(counted), "kinds": kinds, "holds": holds}
        name = (
            "node_tests" + ("_cuda" if options.target == "cuda" else "") + ("_bound" if options.bind else "")
        )
        print(write(name, head, rows, {"node tests": bar}))
    return 0 if holds else 1


if __name__ == "__main__":
    sys.exit(main())
