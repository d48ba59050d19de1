"""Cycles of networks compiled for VTA (default configuration, timing `pynq`, at most 2048 micro-ops).

    python benchmarks/vta.py                 measure everything and write results/vta.json
    python benchmarks/vta.py NAME ... [-k TEXT]   only these networks, and rows that have TEXT; write nothing

Weights are the zoo's (random ones at seed 0), calibration one generated sample at seed 0 where a network has
no data of its own. Each region's program passes the checker and is run in program order and in a random legal
order; every code that leaves it equals the integer reference.

The six ResNets are measured as the original stack's published figures were: every node after the first max
pooling and before the global average pooling, compiled as one program. `layers` of a row: GEMM steps, other
passes, words read and written, cycles (from the end of the layer before to its own) and the ratio to the
larger of what computing and memory alone would take.
Exit status 1 where a result is wrong or a bar fails.
"""

from __future__ import annotations

import argparse
import sys
import tempfile
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from common import header, write
from numpy.typing import NDArray

from optc.models.data import Samples
from optc.models.errors import MissingError, OptcError
from optc.models.model import Model
from optc.models.session import Session
from optc.models.source import open_source
from optc.passes.analysis.counts import count
from optc.passes.base import Context
from optc.passes.bind_shapes import BindShapes
from optc.passes.quantize.integer.compute import ended
from optc.passes.quantize.integer.execute import Reference
from optc.passes.quantize.integer.ops import AveragePool, Channelwise, MaxPool, Op
from optc.passes.registry import parse_passes
from optc.passes.verify.inputs import generate_runnable
from optc.targets.cpu import compile_native
from optc.targets.lowering.graph import Graph
from optc.targets.lowering.importer import import_graph
from optc.targets.lowering.integer.plan import Integers
from optc.targets.lowering.lower import lower
from optc.targets.lowering.offload import Offload, Region, offload
from optc.targets.vta.check import check
from optc.targets.vta.compiler.estimate import STORE_CYCLES, floor, term_steps
from optc.targets.vta.compiler.offloader import VtaOffloader
from optc.targets.vta.compiler.region import RegionProgram
from optc.targets.vta.compiler.search import Machine
from optc.targets.vta.compiler.stages import Stage, Write
from optc.targets.vta.config import Config, Memory
from optc.targets.vta.isa import Load, Store, decode
from optc.targets.vta.program import Image
from optc.targets.vta.sim import Fsim
from optc.targets.vta.timing import PYNQ, simulate
from optc.targets.vta.vta import Vta

MACHINE = Machine(Config(), PYNQ, 2048)
SEED = 0

SETTING = "activations=int8,scales=pow2,rounding=half_up"
EVEN = "activations=int8,scales=pow2"
SETTINGS = {
    "default": f"move-preactivation,quantize{{{SETTING},residual=accumulator,per_channel=false}}",
    "per channel": f"move-preactivation,quantize{{{SETTING},residual=accumulator}}",
    "residual as codes": f"move-preactivation,quantize{{{SETTING},per_channel=false}}",
    "even": f"move-preactivation,quantize{{{EVEN},residual=accumulator,per_channel=false}}",
}

PUBLISHED = {
    "resnet18-v1": 7_729_601,
    "resnet34-v1": 15_736_441,
    "resnet18-v2": 7_608_808,
    "resnet34-v2": 15_534_528,
    "resnet50-v2": 22_012_906,
    "resnet101-v2": 39_182_158,
}
"""Cycles of the original stack on its own RTL (apache/tvm-vta, pull request 30)."""

BARS = {"resnet18-v1": 0.88, "resnet50-v2": 0.86}
STRETCH = {"resnet18-v1": 0.855, "resnet50-v2": 0.84}

WHOLE = (*PUBLISHED, "squeezenet1.1", "mobilenet-v2", "efficientnet-lite0", "fashion-resnet", "minilm")
SHARES = {
    **dict.fromkeys([*PUBLISHED, "squeezenet1.1", "fashion-resnet", "minilm"], 0.99),
    **dict.fromkeys(["mobilenet-v2", "efficientnet-lite0"], 0.97),
}
OTHERS = (
    "resnet50-v1",
    "inception",
    "unet",
    "bert-encoder",
    "gpt-decoder",
    "mnist-cntk",
    "mnist-tf",
    "season",
)
"""The rest of the zoo that has layers to quantize, to be equal to the reference."""
_TOKENS = tuple(f"{n}=1,128" for n in ("input_ids", "attention_mask", "token_type_ids"))
SHAPES = {"minilm": _TOKENS, "bert-encoder": _TOKENS, "gpt-decoder": ("input_ids=1,128",)}
ZEROED = "half of the blocks zero"
ZEROS_BAR = 0.6
ACCURACY = ("fashion-resnet", "squeezenet1.1", "efficientnet-lite0")
ACCURACY_BAR = 0.01
"""Top-1 that fashion-resnet may lose."""
COMPILE_BARS = {"resnet18-v1": 10.0, "fashion-resnet": 5.0}


@dataclass
class Network:
    """A quantized network with the values of its reference for one input, and its compiler."""

    model: Model
    ops: Sequence[Op]
    values: Mapping[str, NDArray[Any]]
    compiler: VtaOffloader
    taken: Offload

    def compiled(self, ops: Sequence[Op] | None = None) -> list[tuple[Region, RegionProgram]]:
        """All regions of the network; given `ops`, one region of those that VTA takes."""
        regions = [self._region(ops)] if ops else list(self.taken.regions)
        for region in regions:
            self.compiler.compile(region)
        return [(r, self.compiler.programs[r.name]) for r in regions]

    def _region(self, ops: Sequence[Op]) -> Region:
        mine = [o for o in ops if o.output not in self.taken.reasons]
        made = {o.output for o in mine}
        inputs = tuple(dict.fromkeys(n for o in mine for n in o.inputs if n not in made))
        read = {n for o in self.ops if o.output not in made for n in o.inputs}
        outputs = tuple(o.output for o in mine if o.output in read) or (mine[-1].output,)
        return Region("counted", tuple(mine), (), inputs, outputs, False)

    def counted(self) -> list[Op]:
        """What stands behind the first max pooling and before the global average pooling.

        In v2 the first BatchNorm and Relu, a Channelwise, are left out: they may stay on the host.
        """
        first = next(i for i, o in enumerate(self.ops) if isinstance(o, MaxPool))
        last = next(i for i, o in enumerate(self.ops) if isinstance(o, AveragePool) and o.window is None)
        first += isinstance(self.ops[first + 1], Channelwise)
        return list(self.ops[first + 1 : last])


def quantized(name: str, pipeline: str, zeroed: bool = False) -> Model:
    """A network of the zoo, canonical and quantized."""
    source = open_source(f"zoo:{name}")
    model = source.model
    if name in SHAPES:
        BindShapes(SHAPES[name]).run(model, Context())
    for step in parse_passes("canonicalize"):
        step.run(model, Context())
    if zeroed:
        zero_blocks(model)
    with tempfile.TemporaryDirectory() as folder:
        samples = source.calibration
        if samples is None:
            drawn = generate_runnable(model, Session(model), SEED, None)
            np.savez(Path(folder) / "calibration.npz", **drawn)  # type: ignore[arg-type]
            samples = Samples(Path(folder) / "calibration.npz")
        for step in parse_passes(pipeline):
            step.run(model, Context(calibration=samples))
    return model


def zero_blocks(model: Model) -> None:
    """Set half of each layer's blocks of 16 x 16 weights to zero, drawn at random.

    Blocks are those that VTA multiplies by: output channels by input channels at a tap; of a convolution of
    few channels, which is folded, by 16 of (row, column, channel); of a Gemm, outputs by inputs.
    """
    rng = np.random.default_rng(SEED)
    for node in model.graph.nodes:
        if node.op == "Conv":
            weight = np.array(node.inputs[1].values)
            few = weight.shape[1] < 16
            flat = weight.transpose(0, 2, 3, 1).reshape(len(weight), -1)[:, :, None] if few else None
            kept = half_kept(rng, weight.reshape(*weight.shape[:2], -1) if flat is None else flat)
            if few:
                co, ci, height, width = weight.shape
                kept = kept.reshape(co, height, width, ci).transpose(0, 3, 1, 2)
            node.inputs[1].values = np.ascontiguousarray(kept.reshape(weight.shape))
        elif node.op == "Gemm":
            weight = np.array(node.inputs[1].values)
            node.inputs[1].values = half_kept(rng, weight[:, :, None]).reshape(weight.shape)


def half_kept(rng: np.random.Generator, weight: NDArray[Any]) -> NDArray[Any]:
    """`weight` [a, b, taps] with half of its blocks (16 of a by 16 of b, each tap by itself) zero."""
    a, b, taps = weight.shape
    shape = (-(-a // 16), -(-b // 16), taps)
    keep = np.ones(int(np.prod(shape)), bool)
    keep[rng.permutation(keep.size)[: keep.size // 2]] = False
    mask = np.repeat(np.repeat(keep.reshape(shape), 16, 0), 16, 1)[:a, :b]
    return np.asarray(weight * mask.astype(weight.dtype))


def network(name: str, pipeline: str, zeroed: bool = False) -> Network:
    """A quantized network, with what VTA refuses of it."""
    model = quantized(name, pipeline, zeroed)
    reference = Reference(model)
    values = reference.trace(generate_runnable(model, Session(model), SEED + 1, None))
    compiler = VtaOffloader(MACHINE)
    graph = Graph(model)
    taken = offload(graph, [], Integers(graph, {}).plan(set()), compiler)
    return Network(model, reference.program.ops, values, compiler, taken)


def verified(region: Region, program: RegionProgram, values: Mapping[str, NDArray[Any]]) -> bool:
    """Whether the checker takes the program, and each result in two orders equals the reference's."""
    config = MACHINE.config
    inputs = [(p.address, _bytes(p.layout.pack(values[p.value], config))) for p in program.inputs]
    areas = [*program.constants, *inputs]
    check(decode(program.instructions, config), config, Image(areas))
    for order in (None, SEED):
        device = Fsim(config, program.end, order)
        for address, data in [*areas, (program.stream_address, program.instructions.reshape(-1))]:
            device.write(address, data)
        device.run(program.stream_address, len(program.instructions))
        for place in program.outputs:
            size = place.layout.extent(config).elements * config.element_bytes(Memory.OUT)
            found = place.layout.unpack(device.read(place.address, size).view(np.int8), config)
            if place.value in region.accumulators:
                found = ended(found, region.accumulators[place.value].ending, "half_up")
            if not np.array_equal(found, values[place.value]):
                return False
    return True


def _bytes(array: NDArray[Any]) -> NDArray[np.uint8]:
    return np.ascontiguousarray(array).reshape(-1).view(np.uint8)


def layers(program: RegionProgram) -> tuple[int, list[dict[str, Any]]]:
    """Cycles of a program, and a row for each of its stages."""
    config = MACHINE.config
    instructions = decode(program.instructions, config)
    report = simulate(instructions, config, MACHINE.timing)
    rows: list[dict[str, Any]] = []
    before = 0
    for number, stage in enumerate(program.stages):
        mine = [i for i, owner in enumerate(program.owners) if owner == number]
        end = max((report.spans[i][1] for i in mine), default=before)
        steps = sum(term_steps(stage, t) for t in stage.terms)
        beats = {
            kind: sum(
                m.x_size * m.y_size * config.element_bytes(m.memory) // 8
                for m in (instructions[i] for i in mine)
                if isinstance(m, kind)
            )
            for kind in (Load, Store)
        }
        compute, memory = floor(stage), memory_floor(stage)
        rows.append(
            {
                "layer": stage.label,
                "macs": stage.macs,
                "gemm_steps": steps,
                "passes": compute - steps,
                "words_read": beats[Load],
                "words_written": beats[Store],
                "cycles": end - before,
                "floor": max(compute, memory),
                "ratio": round((end - before) / max(compute, memory), 4),
            }
        )
        before = end
    return report.cycles, rows


def memory_floor(stage: Stage) -> int:
    """Cycles that reading every input and weight once takes, or writing the output."""
    sources = {t.source: t.extent.elements for t in stage.terms}
    read = sum(sources.values()) * 2 + sum(len(t.weights) for t in stage.terms) * 32
    return max(read, STORE_CYCLES * stage.extent.elements * sum(isinstance(s, Write) for s in stage.steps))


def row(name: str, setting: str, part: str, net: Network, ops: Sequence[Op] | None) -> dict[str, Any]:
    """One row of the table: a network, or the part of it that the published figures count."""
    start = time.perf_counter()
    programs = net.compiled(ops)
    seconds = time.perf_counter() - start
    timed = [layers(program) for _, program in programs]
    cycles, table = sum(c for c, _ in timed), [r for _, rows in timed for r in rows]
    stages = [stage for _, program in programs for stage in program.stages]
    macs = sum(stage.macs for stage in stages)
    if not programs:
        raise MissingError(f"VTA takes nothing of {name}: {sorted({*net.taken.reasons.values()})}")
    found = {
        "network": name,
        "setting": setting,
        "part": part,
        "cycles": cycles,
        "floor": sum(floor(s) for s in stages),
        "launches": len(programs),
        "instructions": sum(len(program.instructions) for _, program in programs),
        "seconds": round(seconds, 1),
        "equal": all(verified(region, program, net.values) for region, program in programs),
        "utilisation": round(macs / 256 / cycles, 4),
    }
    if part == "counted":
        found |= {"published": PUBLISHED[name], "ratio": round(cycles / PUBLISHED[name], 4)}
    else:
        found |= {"share_of_macs": round(macs / max(count(net.model).macs, 1), 4)}
        reasons = net.taken.reasons
        hosted = {f"{type(o).__name__}: {reasons[o.output]}" for o in net.ops if o.output in reasons}
        found |= {"host": sorted(hosted), "ended_by_host": sorted({*net.taken.ended.values()})}
    return found | {"layers": table}


def compile_time(name: str) -> dict[str, Any]:
    """What `optc` takes to compile the quantized network, beside TVM for the float one."""
    from optc.targets.vta.compiler import search

    source = open_source(f"zoo:{name}")
    for step in parse_passes("canonicalize"):
        step.run(source.model, Context())
    graph = Graph(source.model)
    compile_native(import_graph(graph, [], [])[0])  # imports and warm-up
    start = time.perf_counter()
    compile_native(import_graph(graph, [], [])[0])
    theirs = time.perf_counter() - start
    model = quantized(name, SETTINGS["default"])
    search.forget()
    start = time.perf_counter()
    lower(model, "vta", compile_native, VtaOffloader(MACHINE))
    ours = time.perf_counter() - start
    return {
        "network": name,
        "part": "compile time",
        "setting": "default",
        "ratio": round(ours / theirs, 2),
    } | {"seconds": round(ours, 1), "tvm_seconds": round(theirs, 1)}


def accuracy(name: str) -> dict[str, Any]:
    """Top-1 on the labelled images of the zoo, and their mirror images: on the simulator and in float."""
    source = open_source(f"zoo:{name}")
    samples = source.evaluation
    if samples is None:
        raise MissingError(f"zoo:{name} has no labelled images")
    labels = samples.labels
    floats, model = Session(source.model), quantized(name, SETTINGS["default"])
    right = {"float": 0, "vta": 0}
    agreeing = seen = 0
    with tempfile.TemporaryDirectory() as folder:
        runner = Vta().build(model, Path(folder)).runner()
        for batch in samples.batches(list(floats.inputs), 20):
            for flipped in (False, True):
                feeds = {n: np.ascontiguousarray(a[..., ::-1]) if flipped else a for n, a in batch.items()}
                top = {
                    where: np.argmax(next(iter(run(feeds).values())), axis=-1).reshape(-1)
                    for where, run in (("float", floats.run), ("vta", runner.run))
                }
                agreeing += int((top["float"] == top["vta"]).sum())
                if not flipped:
                    mine = labels[seen : seen + len(top["vta"])]
                    right = {k: v + int((top[k] == mine).sum()) for k, v in right.items()}
            seen += len(top["vta"])
    return {
        "network": name,
        "setting": "default",
        "part": "accuracy",
        "images": seen,
        "top1": round(right["vta"] / seen, 4),
        "float_top1": round(right["float"] / seen, 4),
        "agreement": round(agreeing / (2 * seen), 4),
    }


def wanted(names: Sequence[str]) -> Iterator[tuple[str, str, str]]:
    """Network, setting and part of every row."""
    for name in names:
        if name in PUBLISHED:
            yield from ((name, setting, "counted") for setting in SETTINGS)
        if name in WHOLE + OTHERS:
            yield name, "default", "whole"
        if name == "resnet18-v1":
            yield name, ZEROED, "whole"
        if name in ACCURACY:
            yield name, "default", "accuracy"
        if name in COMPILE_BARS:
            yield name, "default", "compile time"


def measure(name: str, setting: str, part: str) -> dict[str, Any]:
    """A row; of a network that is not on this machine, or fails, one that says so."""
    try:
        if part == "compile time":
            return compile_time(name)
        if part == "accuracy":
            return accuracy(name)
        net = network(name, SETTINGS.get(setting, SETTINGS["default"]), setting == ZEROED)
        return row(name, setting, part, net, net.counted() if part == "counted" else None)
    except (OptcError, MissingError, ValueError) as error:
        return {"network": name, "setting": setting, "part": part, "failed": str(error)}


def show(found: Mapping[str, Any]) -> None:
    """Print a row as it comes."""
    keys = (
        "network",
        "setting",
        "part",
        "cycles",
        "floor",
        "ratio",
        "share_of_macs",
        "utilisation",
        "images",
        "top1",
        "float_top1",
        "agreement",
        "equal",
        "seconds",
        "failed",
    )
    print("  ".join(f"{k} {found[k]}" for k in keys if k in found), flush=True)


def bars(rows: Sequence[Mapping[str, Any]]) -> dict[str, bool]:
    """Which bars hold."""
    find = {(r["network"], r["setting"], r["part"]): r for r in rows}
    held: dict[str, bool] = {"equal": all(r.get("equal", True) and "failed" not in r for r in rows)}
    for name in PUBLISHED:
        ratio = find.get((name, "default", "counted"), {}).get("ratio")
        if ratio is not None:
            held[f"{name}: fewer cycles than published"] = ratio < 1
            if name in BARS:
                held[f"{name}: at most {BARS[name]}"] = ratio <= BARS[name]
                held[f"stretch {name}: at most {STRETCH[name]}"] = ratio <= STRETCH[name]
    for name, share in SHARES.items():
        found = find.get((name, "default", "whole"), {}).get("share_of_macs")
        if found is not None:
            held[f"{name}: at least {share:.0%} of MACs on VTA"] = found >= share
    whole, zeroed = (find.get(("resnet18-v1", s, "whole")) for s in ("default", ZEROED))
    if whole and zeroed:
        held[f"zeros: at most {ZEROS_BAR}"] = zeroed["cycles"] <= ZEROS_BAR * whole["cycles"]
    found = find.get(("fashion-resnet", "default", "accuracy"))
    if found is not None and "failed" not in found:
        lost = found["float_top1"] - found["top1"]
        held["fashion-resnet: within 1 point of float"] = lost <= ACCURACY_BAR
    for name, most in COMPILE_BARS.items():
        found = find.get((name, "default", "compile time"), {}).get("ratio")
        if found is not None:
            held[f"{name}: compiled within {most:g} x TVM's time"] = found <= most
    return held


_COLUMNS = {
    "counted": ("cycles", "published", "ratio", "floor", "utilisation", "equal"),
    "whole": ("cycles", "floor", "launches", "instructions", "share_of_macs", "utilisation", "equal"),
    "accuracy": ("images", "top1", "float_top1", "agreement"),
    "compile time": ("seconds", "tvm_seconds", "ratio"),
}
_LAYER = ("gemm_steps", "passes", "words_read", "words_written", "cycles", "floor", "ratio")


def tables(rows: Sequence[Mapping[str, Any]]) -> str:
    """The rows as Markdown: a table for each part, and the layers of each network as a whole."""
    text = [
        "# `benchmarks/vta.py`",
        "",
        "Cycles of timing `pynq`; words are 8 bytes; floor: steps, or memory.",
    ]
    for part, columns in _COLUMNS.items():
        some = [r for r in rows if r["part"] == part]
        body = [[r["network"], r["setting"], *(r.get(c, r.get("failed", "")) for c in columns)] for r in some]
        text += ["", f"## {part}", "", *_table(("network", "setting", *columns), body)]
    for r in rows:
        if r["part"] == "whole" and "layers" in r:
            body = [[layer["layer"], *(layer[c] for c in _LAYER)] for layer in r["layers"]]
            title = f"## {r['network']}, {r['setting']}: each layer"
            text += ["", title, "", *_table(("layer", *_LAYER), body)]
    return "\n".join(text) + "\n"


def _table(head: Sequence[str], body: Sequence[Sequence[Any]]) -> list[str]:
    shown = [[f"{v:,}" if isinstance(v, int) and v is not True else str(v) for v in row] for row in body]
    return ["| " + " | ".join(row) + " |" for row in (head, ["---"] * len(head), *shown)]


def main() -> int:
    """Measure; see the module."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("names", nargs="*")
    parser.add_argument("-k", default="", metavar="TEXT")
    options = parser.parse_args()
    rows: list[dict[str, Any]] = []
    for name, setting, part in wanted(options.names or WHOLE + OTHERS):
        if options.k in f"{setting} {part}":
            rows.append(measure(name, setting, part))
            show(rows[-1])
    held = bars(rows)
    for name, holds in held.items():
        print(f"{'holds' if holds else 'FAILS'}  {name}")
    if not options.names and not options.k:
        packages = ("optc", "onnx", "onnxruntime", "apache-tvm", "numpy", "numba")
        seeds = {"weights": SEED, "calibration": SEED, "input": SEED + 1}
        path = write("vta", header(packages, seeds), rows, held)
        path.with_suffix(".md").write_text(tables(rows))
        print(path)
    return 0 if all(h for n, h in held.items() if not n.startswith("stretch")) else 1


if __name__ == "__main__":
    sys.exit(main())
