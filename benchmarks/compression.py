"""Pruning and quantization: accuracy, latency and cycles, beside ONNX Runtime's quantizer.

    python benchmarks/compression.py           measure everything; write results/compression.json and .md
    python benchmarks/compression.py PART ...  only these parts; write nothing

Parts: `quantization` (accuracy, and latency in ONNX Runtime with one thread), `channels` (latency of models
whose channels were pruned to half the MACs), `zeros` (accuracy with half of the weights zero), `vta` (cycles,
timing pynq). Needs the networks that `python -m optc.models.zoo.fetch` brings, foolbox's photographs in the
folder that `--photographs` names, and Fashion-MNIST's test set in that of `--fashion` (Debian:
dataset-fashion-mnist). The photographs are those that calibration crops come from, too: there are no others.
Exit status 1 where a bar fails.
"""

from __future__ import annotations

import argparse
import gzip
import math
import statistics
import sys
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from common import RESULTS, header, write
from compression_peers import ACTIVATIONS, METHODS, quantize_static
from numpy.typing import NDArray
from vta import SETTINGS, network, row

from optc.models.errors import MissingError, OptcError
from optc.models.model import Model
from optc.models.session import Session
from optc.models.source import open_source
from optc.models.zoo import photographs
from optc.passes.analysis.counts import count
from optc.passes.base import Context
from optc.passes.pipeline import Pipeline
from optc.passes.registry import parse_passes
from optc.passes.verify.inputs import generate_runnable
from optc.passes.verify.metrics import paired_test

Array = NDArray[Any]

OURS = {
    "nearest": "quantize",
    "learnt": "quantize{weights=learnt,calibration=mse}",
    "nearest, pow2": "quantize{scales=pow2}",
    "learnt, pow2": "quantize{weights=learnt,scales=pow2,calibration=mse}",
}
"""The first two are compared with the peer; of those the one of more accuracy counts."""

PICTURES = {
    "squeezenet1.1": (227, photographs.normalize_squeezenet),
    "efficientnet-lite0": (224, photographs.normalize_efficientnet),
}
HALVED = {
    **dict.fromkeys(["resnet18-v1", "resnet50-v1", "squeezenet1.1"], 0.85),
    **dict.fromkeys(["mobilenet-v2", "efficientnet-lite0", "bert-encoder"], 0.75),
}
"""The share of the MAC ratio that latency has to gain."""

ZEROS = ("single", "2:4", "16x16")
BLOCKS = (
    "macs=0.5",
    "allocation=global",
    "allocation=global,macs=0.5",
    "allocation=sensitivity",
    "allocation=sensitivity,macs=0.5",
)
"""Other ways than the same share of each layer's blocks."""
VTA = SETTINGS["default"]
ROUNDS = 31
"""Rounds of every model in turn; each takes at least 20 ms."""


def canonical(name: str) -> tuple[Any, Model]:
    """A network of the zoo, with its data, in canonical form and without a last Softmax."""
    source = open_source(f"zoo:{name}")
    model = source.model
    Pipeline(parse_passes("canonicalize")).run(model, Context())
    last = model.view.outputs[0].inputs[0]
    if last.op == "Softmax":
        logits = last.inputs[0]
        logits.dtype = np.dtype(np.float32)
        model.graph.outputs = [logits]
        model.graph.cleanup()
    return source, model


def images(name: str, folders: Mapping[str, Path | None]) -> tuple[Array, Array | None]:
    """What a network is judged on: images, and labels where there are some."""
    if name == "fashion-resnet":
        folder = folders["fashion"]
        if folder is None or not (folder / "t10k-images-idx3-ubyte.gz").is_file():
            raise MissingError("--fashion FOLDER: no t10k-images-idx3-ubyte.gz there")
        with gzip.open(folder / "t10k-images-idx3-ubyte.gz") as file:
            pixels = np.frombuffer(file.read(), np.uint8, offset=16).reshape(-1, 1, 28, 28)
        with gzip.open(folder / "t10k-labels-idx1-ubyte.gz") as file:
            labels = np.frombuffer(file.read(), np.uint8, offset=8).astype(np.int64)
        return pixels.astype(np.float32) / np.float32(255), labels
    folder = folders["photographs"]
    if folder is None or not folder.is_dir():
        raise MissingError("--photographs FOLDER: the folder foolbox/data of the wheel foolbox 3.3.4")
    size, normalize = PICTURES[name]
    return photographs.random_crops(folder, size, normalize), None


def outputs(model: Model, data: Array) -> Array:
    """The first output for all `data`, in ONNX Runtime as users run it."""
    session = Session(model, optimize=True)
    (name,) = session.inputs
    parts = [next(iter(session.run({name: data[i : i + 20]}).values())) for i in range(0, len(data), 20)]
    return np.concatenate(parts)


def latencies(models: Sequence[Model]) -> list[float]:
    """Median milliseconds of each, one thread, rounds interleaved."""
    sessions = [Session(m, optimize=True, threads=1) for m in models]
    feeds = [generate_runnable(m, s, 0) for m, s in zip(models, sessions, strict=True)]
    times: list[list[float]] = [[] for _ in models]
    for _ in range(ROUNDS):
        for session, feed, found in zip(sessions, feeds, times, strict=True):
            session.run(feed)
            runs, start, now = 0, time.perf_counter(), 0.0
            while runs < 3 or now - start < 0.02:
                session.run(feed)
                runs, now = runs + 1, time.perf_counter()
            found.append((now - start) / runs * 1e3)
    return [statistics.median(t) for t in times]


def snr(wanted: Array, found: Array) -> float:
    """Signal to noise in dB over all values."""
    noise = float(np.sum(np.square(found - wanted, dtype=np.float64)))
    return round(10 * math.log10(float(np.sum(np.square(wanted, dtype=np.float64))) / noise), 2)


def quantization(folders: Mapping[str, Path | None]) -> Iterator[dict[str, Any]]:
    """Ours and the peer's, on the same calibration samples."""
    for name in ("fashion-resnet", *PICTURES):
        source, model = canonical(name)
        data, labels = images(name, folders)
        wanted = outputs(model, data)
        made: dict[str, Model] = {}
        for setting, text in OURS.items():
            made[f"optc {setting}"] = model.copy()
            start = time.perf_counter()
            Pipeline(parse_passes(text)).run(made[f"optc {setting}"], Context(calibration=source.calibration))
            print(f"{name} {setting}: {time.perf_counter() - start:.0f} s", file=sys.stderr)
        for method in METHODS:
            for activations in ACTIVATIONS:
                key = f"onnxruntime {method} {activations}"
                try:
                    made[key] = quantize_static(model, source.calibration, method, activations, 100)
                except Exception as error:  # the peer's failure is a row, too
                    yield {"part": "quantization", "network": name, "setting": key, "error": str(error)[:200]}
        times = latencies([model, *made.values()])
        hits: dict[str, NDArray[np.bool_]] = {}
        for (key, found), milliseconds in zip(made.items(), times[1:], strict=True):
            result = outputs(found, data)
            top = np.argmax(result, axis=1)
            hits[key] = top == (np.argmax(wanted, axis=1) if labels is None else labels)
            yield {
                "part": "quantization",
                "network": name,
                "setting": key,
                "snr": snr(wanted, result),
                "agreement": round(float(np.mean(top == np.argmax(wanted, axis=1))), 4),
                "top1": None if labels is None else round(float(np.mean(top == labels)), 4),
                "float_top1": None
                if labels is None
                else round(float(np.mean(np.argmax(wanted, 1) == labels)), 4),
                "milliseconds": round(milliseconds, 3),
                "of_float": round(milliseconds / times[0], 3),
            }
        ours, theirs = (
            max((k for k in hits if k.startswith(who)), key=lambda k: hits[k].sum())
            for who in ("optc", "onnxruntime")
        )
        yield {
            "part": "paired",
            "network": name,
            "setting": f"{ours}, and {theirs}",
            "right": [int(hits[ours].sum()), int(hits[theirs].sum())],
            "of": len(data),
            "p": round(paired_test(hits[theirs], hits[ours]), 4),
        }


def channels(folders: Mapping[str, Path | None]) -> Iterator[dict[str, Any]]:
    """Latency of models with half the MACs."""
    for name in HALVED:
        _, model = canonical(name)
        if name == "bert-encoder":
            shapes = "[" + ",".join(f'"{t.name}=1,128"' for t in model.view.inputs) + "]"
            Pipeline(parse_passes(f"bind-shapes{{shapes={shapes}}},canonicalize")).run(model, Context())
        pruned = model.copy()
        Pipeline(parse_passes("prune-channels")).run(pruned, Context())
        share = count(pruned).macs / count(model).macs
        before, after = latencies([model, pruned])
        yield {
            "part": "channels",
            "network": name,
            "macs": round(share, 4),
            "milliseconds": [round(before, 3), round(after, 3)],
            "gain": round(before / after, 3),
            "of_mac_ratio": round(before / after * share, 3),
        }


def zeros(folders: Mapping[str, Path | None]) -> Iterator[dict[str, Any]]:
    """The bundled model with half of its weights, or its MACs, gone, and no training."""
    source, model = canonical("fashion-resnet")
    data, labels = images("fashion-resnet", folders)
    texts = [f"prune{{pattern={p}{repair}}}" for p in ZEROS for repair in ("", ",repair=weights")]
    texts += [f"prune{{pattern=16x16,repair=weights,{how}}}" for how in BLOCKS]
    texts += [
        f"prune-channels{{allocation={a},criterion=activation,repair={r},samples=1000}}"
        for a in ("uniform", "global", "sensitivity")
        for r in ("none", "bias", "weights")
    ]
    full = outputs(model, data).argmax(axis=1) == labels
    for text in texts:
        pruned = model.copy()
        (step,) = Pipeline(parse_passes(text)).run(pruned, Context(calibration=source.calibration))
        right = outputs(pruned, data).argmax(axis=1) == labels
        difference = right.astype(np.float64) - full
        half = 1.96 * difference.std(ddof=1) / math.sqrt(len(difference))
        yield {
            "part": "zeros",
            "network": "fashion-resnet",
            "setting": text,
            "share": round(float(step.facts.get("macs", step.facts.get("sparsity", 0))), 4),
            "top1": round(float(right.mean()), 4),
            "float_top1": round(float(full.mean()), 4),
            "difference": [round(float(difference.mean() + s * half), 4) for s in (-1, 0, 1)],
        }


def vta(folders: Mapping[str, Path | None]) -> Iterator[dict[str, Any]]:
    """Cycles of whole networks on VTA, before and after; each program equal to its reference."""
    for name in ("fashion-resnet", "resnet18-v1"):
        full = row(name, "", "whole", network(name, VTA), None)
        for text in ("prune-channels", "prune{pattern=16x16}"):
            found = row(name, "", "whole", network(name, f"{text},{VTA}"), None)
            yield {
                "part": "vta",
                "network": name,
                "setting": text,
                "cycles": [full["cycles"], found["cycles"]],
                "ratio": round(found["cycles"] / full["cycles"], 4),
                "equal": full["equal"] and found["equal"],
            }


PARTS: dict[str, Callable[[Mapping[str, Path | None]], Iterator[dict[str, Any]]]] = {
    "quantization": quantization,
    "channels": channels,
    "zeros": zeros,
    "vta": vta,
}


def bars(rows: Sequence[Mapping[str, Any]]) -> dict[str, bool]:
    """Each bar, and whether it holds."""
    found: dict[str, bool] = {}
    for r in rows:
        if r["part"] == "paired":
            worse = r["right"][0] < r["right"][1] and r["p"] < 0.05
            found[f"{r['network']}: no worse than ONNX Runtime's best (paired, 5%)"] = not worse
    quantized = [r for r in rows if r["part"] == "quantization" and "error" not in r]
    for name in dict.fromkeys(r["network"] for r in quantized):
        mine = [r for r in quantized if r["network"] == name]
        peers = [r for r in mine if r["setting"].startswith("onnxruntime")]
        ours = [r for r in mine if r["setting"] in ("optc nearest", "optc learnt")]
        fastest = min(r["milliseconds"] for r in peers)
        found[f"{name}: at most 1.03 of its fastest's time"] = (
            min(r["milliseconds"] for r in ours) <= 1.03 * fastest
        )
        if name == "efficientnet-lite0":
            found[f"{name}: SNR 1 dB above its best"] = (
                max(r["snr"] for r in ours) >= max(r["snr"] for r in peers) + 1
            )
        if name == "fashion-resnet":
            top = {r["setting"]: r["top1"] for r in mine}
            found[f"{name}: pow2 within 1 point of free scales"] = (
                top["optc learnt, pow2"] >= top["optc learnt"] - 0.01
            )
    for r in rows:
        if r["part"] == "channels":
            bar = HALVED[r["network"]]
            found[f"{r['network']}: gain at least {bar} of the MAC ratio"] = r["of_mac_ratio"] >= bar
        if r["part"] == "vta":
            found[f"{r['network']}, {r['setting']}: at most 0.6 of the cycles, equal"] = (
                r["ratio"] <= 0.6 and r["equal"]
            )
        if r["part"] == "zeros" and r["setting"] == "prune{pattern=single,repair=weights}":
            found["fashion-resnet: half the weights zero within 1 point"] = (
                r["top1"] >= r["float_top1"] - 0.01
            )
    return found


def table(rows: Sequence[Mapping[str, Any]], held: Mapping[str, bool]) -> str:
    """The rows in Markdown, a table a part."""
    lines = [
        "# Compression",
        "",
        "Made by `python benchmarks/compression.py`; `compression.json` holds the conditions.",
        "",
    ]
    lines += [f"- {'holds' if ok else '**fails**'}: {bar}" for bar, ok in held.items()]
    for part in ("quantization", "paired", *list(PARTS)[1:]):
        mine = [r for r in rows if r["part"] == part]
        keys = list(dict.fromkeys(k for r in mine for k in r if k != "part"))
        if mine:
            lines += ["", f"## {part}", "", "| " + " | ".join(keys) + " |", "|" + " --- |" * len(keys)]
            lines += ["| " + " | ".join(str(r.get(k, "")) for k in keys) + " |" for r in mine]
    return "\n".join(lines) + "\n"


def main() -> int:
    """Run the parts, print the rows, write them where all were run."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("parts", nargs="*", metavar="PART", help=", ".join(PARTS))
    parser.add_argument("--photographs", type=Path, help="folder foolbox/data")
    parser.add_argument("--fashion", type=Path, default=Path("/usr/share/datasets/fashion-mnist"))
    options = parser.parse_args()
    head = header(["optc", "onnx", "onnxruntime", "numpy"], {"crops": 0, "weights": 0})
    folders = {"photographs": options.photographs, "fashion": options.fashion}
    rows: list[dict[str, Any]] = []
    for part in options.parts or PARTS:
        try:
            for found in PARTS[part](folders):
                print(found, flush=True)
                rows.append(found)
        except OptcError as error:
            print(f"{part}: {error}", file=sys.stderr)
            rows.append({"part": part, "network": "", "error": str(error)})
    held = bars([r for r in rows if "error" not in r])
    for bar, ok in held.items():
        print("holds" if ok else "FAILS", bar)
    if not options.parts:
        write("compression", head, rows, held)
        (RESULTS / "compression.md").write_text(table(rows, held))
    return 0 if all(held.values()) else 1


if __name__ == "__main__":
    sys.exit(main())
