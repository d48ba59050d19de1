"""The parts `channels`, `zeros` and `vta`: what our pruning gains and costs, beside the network before."""

from __future__ import annotations

import math

import numpy as np
from compression_measure import Folders, Rows, bind, canonical, latencies, say
from compression_tasks import fashion, run
from vta import SETTINGS, network, row

from optc.passes.analysis.counts import count
from optc.passes.base import Context
from optc.passes.pipeline import Pipeline
from optc.passes.registry import parse_passes

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
ON_VTA = ("fashion-resnet", "resnet18-v1")
HALVES = ("prune-channels", "prune{pattern=16x16}")
"""What leaves half of the work, on VTA."""


def channels(folders: Folders) -> Rows:
    """Latency of models with half the MACs."""
    for name in HALVED:
        _, model = canonical(name)
        if name == "bert-encoder":
            bind(model, {t.name: (1, 128) for t in model.view.inputs})
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


def zeros(folders: Folders) -> Rows:
    """The bundled model with half of its weights, or its MACs, gone, and no training."""
    source, model = canonical("fashion-resnet")
    data, labels = fashion(folders.fashion)
    feeds = {model.view.inputs[0].name: data}
    texts = [f"prune{{pattern={p}{repair}}}" for p in ZEROS for repair in ("", ",repair=weights")]
    texts += [f"prune{{pattern=16x16,repair=weights,{how}}}" for how in BLOCKS]
    texts += [
        f"prune-channels{{allocation={a},criterion=activation,repair={r},samples=1000}}"
        for a in ("uniform", "global", "sensitivity")
        for r in ("none", "bias", "weights")
    ]
    full = run(model, feeds).argmax(axis=1) == labels
    for text in texts:
        say(text)
        pruned = model.copy()
        (step,) = Pipeline(parse_passes(text)).run(pruned, Context(calibration=source.calibration))
        right = run(pruned, feeds).argmax(axis=1) == labels
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


def vta(folders: Folders) -> Rows:
    """Cycles of whole networks on VTA, before and after; each program equal to its reference."""
    for name in ON_VTA:
        full = row(name, "", "whole", network(name, VTA), None)
        for text in HALVES:
            found = row(name, "", "whole", network(name, f"{text},{VTA}"), None)
            yield {
                "part": "vta",
                "network": name,
                "setting": text,
                "cycles": [full["cycles"], found["cycles"]],
                "ratio": round(found["cycles"] / full["cycles"], 4),
                "equal": full["equal"] and found["equal"],
            }
