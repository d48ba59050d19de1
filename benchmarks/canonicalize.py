"""Nodes left, time taken, outputs and size after canonicalize, onnxslim and onnxsim on the same files.

    python benchmarks/canonicalize.py            measure every model, write results/canonicalize.json
    python benchmarks/canonicalize.py --check    measure again and say which bar holds, write nothing

Bars: no more nodes left than the better of the other two leaves; at most 1.03 times onnxslim's time;
outputs equal to the input file's. Nodes that produce constants (Constant, ConstantOfShape of a constant) do
not count. Exit status 1 where a bar fails.
"""

from __future__ import annotations

import argparse
import contextlib
import gc
import io
import logging
import statistics
import sys
import time
from collections import Counter
from collections.abc import Callable, Iterator
from functools import partial
from typing import Any

import common
import numpy as np
import onnx
from light_models import light_models, with_random_weights
from numpy.typing import NDArray
from rich.console import Console
from rich.table import Table

from optc.models.errors import OptcError
from optc.models.model import Model
from optc.models.zoo.registry import zoo_entries
from optc.passes.base import Context, Exact
from optc.passes.canonicalize.canonicalize import Canonicalize

OPSET = 21
SEED = 0
SLOWEST = 1.03
"""Our time as a multiple of onnxslim's: the most that holds."""

FREE = 4
"""What an input's free dimension is bound to when outputs are compared."""

Tool = Callable[[onnx.ModelProto], onnx.ModelProto]
Row = dict[str, Any]


def ours(proto: onnx.ModelProto, fold_limit: float = 1.1) -> onnx.ModelProto:
    """The library's way: wrap, run the pass, give the proto back."""
    model = Model(proto)
    Canonicalize(OPSET, fold_limit).run(model, Context())
    return model.to_proto()


def slim(proto: onnx.ModelProto) -> onnx.ModelProto:
    """onnxslim with its defaults."""
    import onnxslim

    result: onnx.ModelProto = onnxslim.slim(proto)
    return result


def sim(proto: onnx.ModelProto) -> onnx.ModelProto:
    """onnxsim with its defaults."""
    import onnxsim

    result: onnx.ModelProto = onnxsim.simplify(proto)[0]
    return result


TOOLS: dict[str, Tool] = {"ours": ours, "slim": slim, "sim": sim}


def sources() -> Iterator[tuple[str, Callable[[], onnx.ModelProto]]]:
    """Name of each model, and what builds it."""
    for name, path in light_models():
        yield name, partial(with_random_weights, path, SEED)
    for entry in zoo_entries():
        yield entry.name, entry.build


def upgraded(proto: onnx.ModelProto) -> onnx.ModelProto:
    """The one file that all three tools get."""
    versions = [o.version for o in proto.opset_import if o.domain in ("", "ai.onnx")]
    if not versions or versions[0] >= OPSET:
        return proto
    return onnx.version_converter.convert_version(onnx.shape_inference.infer_shapes(proto), OPSET)


def count_nodes(graph: onnx.GraphProto) -> Counter[str]:
    """Nodes by operator, those in subgraphs too, without the producers of constants."""
    constants = {t.name for t in graph.initializer}
    constants |= {name for n in graph.node if n.op_type == "Constant" for name in n.output}
    found: Counter[str] = Counter()
    for node in graph.node:
        constant = node.op_type == "ConstantOfShape" and node.input[0] in constants
        if node.op_type != "Constant" and not constant:
            found[node.op_type] += 1
        for attribute in node.attribute:
            if attribute.HasField("g"):
                found += count_nodes(attribute.g)
    return found


def measure(name: str, build: Callable[[], onnx.ModelProto], rounds: int) -> Row:
    """One row: counts, times, outputs, sizes; or why there is none."""
    try:
        proto = upgraded(build())
    except (OptcError, RuntimeError, ValueError) as error:
        return {"model": name, "skipped": str(error).splitlines()[0]}
    row: Row = {"model": name, "nodes_before": count_nodes(proto.graph).total(), "bytes_before": size(proto)}
    results: dict[str, onnx.ModelProto] = {}
    for tool in TOOLS:
        with quiet():
            try:
                results[tool] = TOOLS[tool](copy_of(proto))
            except Exception as error:  # a tool that fails has a row too
                row[tool] = {"failed": f"{type(error).__name__}: {str(error).splitlines()[0][:200]}"}
    times = time_tools(proto, list(results), rounds)
    reference = Outputs(proto)
    row["outputs_before"] = reference.describe()
    for tool, result in results.items():
        ops = count_nodes(result.graph)
        row[tool] = {
            "nodes": ops.total(),
            "seconds": round(statistics.median(times[tool]), 5),
            "all_seconds": [round(t, 5) for t in times[tool]],
            "bytes": size(result),
            **reference.compare(result),
            "operators": dict(ops.most_common()),
        }
    judge(row, proto)
    return row


def time_tools(proto: onnx.ModelProto, tools: list[str], rounds: int) -> dict[str, list[float]]:
    """Seconds of each run; the tools take turns, each on a copy of its own."""
    times: dict[str, list[float]] = {tool: [] for tool in tools}
    for turn in range(rounds):
        for tool in tools if turn % 2 == 0 else reversed(tools):
            proto_copy = copy_of(proto)
            gc.collect()
            with quiet():
                start = time.perf_counter()
                result = TOOLS[tool](proto_copy)
                times[tool].append(time.perf_counter() - start)
            del result, proto_copy
    return times


def judge(row: Row, proto: onnx.ModelProto) -> None:
    """Add the bars to a row, and the reason where nodes stay on purpose."""
    mine = row["ours"]
    if "failed" in mine:
        row["bars"] = {"nodes": False, "time": False, "outputs": False}
        return
    others = [row[t]["nodes"] for t in ("slim", "sim") if "nodes" in row[t]]
    best = min(others, default=None)
    fewer = best is None or mine["nodes"] <= best
    if not fewer:
        without_limit = count_nodes(ours(copy_of(proto), 1e9).graph).total()
        row["nodes_without_fold_limit"] = without_limit
        if best is not None and without_limit <= best:
            reason = "left on purpose: folding them would take the file past fold_limit=1.1"
            row["why"] = f"{mine['nodes'] - without_limit} nodes {reason} ({without_limit} without it)"
            fewer = True
    ratio = mine["seconds"] / row["slim"]["seconds"] if "seconds" in row["slim"] else None
    row["time_ratio"] = None if ratio is None else round(ratio, 3)
    row["bars"] = {
        "nodes": fewer,
        "time": ratio is None or ratio <= SLOWEST,
        "outputs": mine["outputs"] in ("equal", "not run"),
    }


class Outputs:
    """What ONNX Runtime, graph optimizations off, gives for one model on random inputs."""

    def __init__(self, proto: onnx.ModelProto) -> None:
        self.error: str | None = None
        self.values: list[NDArray[Any]] = []
        self.feeds = random_feeds(proto)
        try:
            self.values = run(proto, self.feeds)
        except Exception as error:  # ONNX Runtime's errors share no base class
            self.error = str(error).splitlines()[0][:200]

    def describe(self) -> Row:
        """Deviation of each output (constant ones would prove nothing), or why there is none."""
        if self.error:
            return {"not_run": self.error}
        return {"deviations": [float(np.std(v.astype(np.float64))) for v in self.values]}

    def compare(self, proto: onnx.ModelProto) -> Row:
        """Whether another model gives the same within the contract, and the largest relative error."""
        if self.error:
            return {"outputs": "not run"}
        try:
            values = run(proto, self.feeds)
        except Exception as error:
            return {"outputs": f"fails: {str(error).splitlines()[0][:200]}"}
        if [v.shape for v in values] != [v.shape for v in self.values]:
            return {"outputs": "other shapes"}
        pairs = list(zip(self.values, values, strict=True))
        equal = all(_within(a, b) for a, b in pairs)
        worst = max(_relative_error(a, b) for a, b in pairs)
        return {"outputs": "equal" if equal else "differ", "max_relative_error": worst}


def _within(a: NDArray[Any], b: NDArray[Any]) -> bool:
    if a.dtype != b.dtype or a.dtype.kind != "f":
        return bool(np.array_equal(a, b))
    tolerance = Exact().tolerance[a.dtype.name]
    x, y = a.astype(np.float64), b.astype(np.float64)
    return bool((np.abs(x - y) <= tolerance.atol * np.abs(x).max() + tolerance.rtol * np.abs(x)).all())


def _relative_error(a: NDArray[Any], b: NDArray[Any]) -> float:
    """Largest difference as a share of the largest magnitude."""
    x, y = a.astype(np.float64), b.astype(np.float64)
    return float(np.abs(x - y).max() / max(np.abs(x).max(), 1e-30))


def random_feeds(proto: onnx.ModelProto) -> dict[str, NDArray[Any]]:
    """Normal floats, and integers of 0 and 1 (token ids, masks, types), by input name."""
    rng = np.random.default_rng(SEED)
    weights = {t.name for t in proto.graph.initializer}
    feeds: dict[str, NDArray[Any]] = {}
    for item in proto.graph.input:
        if item.name in weights:
            continue
        dims = item.type.tensor_type.shape.dim
        shape = tuple(d.dim_value if d.HasField("dim_value") else FREE for d in dims)
        dtype = onnx.helper.tensor_dtype_to_np_dtype(item.type.tensor_type.elem_type)
        if dtype.kind == "f":
            feeds[item.name] = rng.standard_normal(shape).astype(dtype)
        else:
            feeds[item.name] = rng.integers(0, 2, shape).astype(dtype)
    return feeds


def run(proto: onnx.ModelProto, feeds: dict[str, NDArray[Any]]) -> list[NDArray[Any]]:
    """Outputs of a model in ONNX Runtime with graph optimizations off."""
    import onnxruntime as ort

    options = ort.SessionOptions()
    options.log_severity_level = 4
    options.graph_optimization_level = ort.GraphOptimizationLevel.ORT_DISABLE_ALL
    session = ort.InferenceSession(proto.SerializeToString(), options, ["CPUExecutionProvider"])
    outputs: list[NDArray[Any]] = session.run(None, feeds)
    return outputs


def size(proto: onnx.ModelProto) -> int:
    """Bytes of the file."""
    return proto.ByteSize()


def copy_of(proto: onnx.ModelProto) -> onnx.ModelProto:
    """A copy, since the tools may edit what they get."""
    copied = onnx.ModelProto()
    copied.CopyFrom(proto)
    return copied


@contextlib.contextmanager
def quiet() -> Iterator[None]:
    """The other tools print."""
    logging.disable(logging.CRITICAL)
    with contextlib.redirect_stdout(io.StringIO()), contextlib.redirect_stderr(io.StringIO()):
        yield
    logging.disable(logging.NOTSET)


def print_table(rows: list[Row], console: Console) -> None:
    """One line a model."""
    table = Table(
        "model", "nodes", "ours", "slim", "sim", "ms", "slim ms", "sim ms", "ratio", "outputs", "why"
    )
    for row in rows:
        if "skipped" in row:
            table.add_row(row["model"], *["-"] * 9, f"skipped: {row['skipped']}")
            continue
        tools = [row[t] for t in TOOLS]
        nodes = [str(t.get("nodes", "failed")) for t in tools]
        millis = [f"{t['seconds'] * 1e3:.1f}" if "seconds" in t else "-" for t in tools]
        outputs = "/".join(str(t.get("outputs", "-"))[:8] for t in tools)
        ratio = str(row.get("time_ratio"))
        table.add_row(
            row["model"], str(row["nodes_before"]), *nodes, *millis, ratio, outputs, row.get("why", "")
        )
    console.print(table)


def main() -> int:
    """Measure, print, write or check."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--check", action="store_true", help="say which bar holds; write nothing")
    parser.add_argument("--rounds", type=int, default=7, help="timed runs of each tool on each model")
    parser.add_argument("models", nargs="*", help="only these")
    options = parser.parse_args()
    console = Console(width=170 if not sys.stdout.isatty() else None)
    rows = []
    for name, build in sources():
        if not options.models or name in options.models:
            rows.append(measure(name, build, options.rounds))
            console.print(f"{name}: {summary(rows[-1])}", highlight=False)
    print_table(rows, console)
    measured = [r for r in rows if "skipped" not in r]
    bars = {bar: all(r["bars"][bar] for r in measured) for bar in ("nodes", "time", "outputs")}
    for bar, holds in bars.items():
        failing = ", ".join(r["model"] for r in measured if not r["bars"][bar])
        console.print(f"bar {bar}: {'holds' if holds else f'FAILS: {failing}'} ({len(measured)} models)")
    if not options.check and not options.models:
        packages = ["numpy", "onnx", "onnx-graphsurgeon", "onnxruntime", "onnxslim", "onnxsim"]
        console.print(
            f"wrote {common.write('canonicalize', common.header(packages, {'weights': SEED}), rows, bars)}"
        )
    return 0 if all(bars.values()) else 1


def summary(row: Row) -> str:
    """One line while it runs."""
    if "skipped" in row:
        return f"skipped, {row['skipped']}"
    counts = " / ".join(str(row[t].get("nodes", "failed")) for t in TOOLS)
    return f"{counts} nodes, {row.get('time_ratio')} of onnxslim's time"


if __name__ == "__main__":
    sys.exit(main())
