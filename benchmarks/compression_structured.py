"""The parts `pruned` and `equal-macs`: our structured pruning beside onnxsim's."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator
from functools import partial
from typing import Any

import compression_onnxsim
import numpy as np
import onnx
from compression_measure import Array, Folders, Row, Rows, bind, canonical, say
from compression_tasks import fashion, run
from light_models import light_models, with_random_weights

from optc.models.data import Samples
from optc.models.model import Model
from optc.models.session import Session
from optc.models.zoo.registry import zoo_entries
from optc.passes.analysis.counts import count
from optc.passes.base import Context
from optc.passes.pipeline import Pipeline
from optc.passes.registry import parse_passes
from optc.passes.verify.inputs import generate_runnable

SEED = 0
OURS = "prune-channels{allocation=sensitivity,criterion=activation,repair=weights,samples=1000}"
FORMS = ("structured", "structured cpp", "heads", "blocks")
"""Those of onnxsim's methods that recognize different structures."""

RANKED = ("structured", "structured global", "structured wanda", "structured wanda global")
STEPS = 8
"""Halvings in the search for the sparsity of equal MACs."""


def pruned(folders: Folders) -> Rows:
    """Which networks lose parameters and MACs and still run, one row a network and tool."""
    for name, build in _networks():
        try:
            model = Model(build())
            Pipeline(parse_passes("canonicalize")).run(model, Context())
            feeds = generate_runnable(model, Session(model), SEED)
            bind(model, {key: array.shape for key, array in feeds.items()})
        except Exception as error:  # a network that does not run, or was not fetched
            yield {"part": "pruned", "network": name, "setting": "", "error": _line(error)}
            continue
        row = _row(name, "optc", model, feeds, _halve)
        yield row
        if not row["pruned"]:  # the default keeps widths multiples of 16
            yield _row(name, "optc align=1", model, feeds, partial(_halve, text="prune-channels{align=1}"))
        for method in FORMS:
            prune = partial(_onnxsim, f"prune {method} 0.5")
            yield _row(name, f"onnxsim {method}", model, feeds, prune)


def _networks() -> Iterator[tuple[str, Callable[[], onnx.ModelProto]]]:
    for name, path in light_models():
        yield name, partial(with_random_weights, path, SEED)
    for entry in zoo_entries():
        yield entry.name, entry.build


def _halve(model: Model, text: str = "prune-channels") -> tuple[Model, str]:
    """Ours, and the reason most often given for what stays."""
    found, context = model.copy(), Context()
    Pipeline(parse_passes(text)).run(found, context)
    reasons = Counter(d.reason for d in context.declined)
    return found, reasons.most_common(1)[0][0] if reasons else ""


def _onnxsim(method: str, model: Model) -> tuple[Model, str]:
    found = compression_onnxsim.apply(method, model, None)
    found.graph.cleanup()  # it leaves the weights of blocks that it takes out
    return found, ""


def _row(
    name: str,
    setting: str,
    model: Model,
    feeds: dict[str, Array],
    prune: Callable[[Model], tuple[Model, str]],
) -> Row:
    """What `prune` leaves of `model`: shares of MACs and parameters, and whether it runs as before."""
    say(f"{name} {setting}")
    row: Row = {"part": "pruned", "network": name, "setting": setting, "pruned": False}
    try:
        found, reason = prune(model)
        before, after = count(model), count(found)
        row["macs"] = round(after.macs / max(before.macs, 1), 4)
        row["parameters"] = round(after.parameters / max(before.parameters, 1), 4)
        row["declined"] = reason
        wanted, result = (Session(m, optimize=True).run(feeds) for m in (model, found))
        row["same_outputs"] = _same_form(wanted, result)
        smaller = after.macs < before.macs and after.parameters < before.parameters
        row["pruned"] = smaller and row["same_outputs"]
    except Exception as error:  # a failure is a row, too
        row["error"] = _line(error)
    return row


def _same_form(wanted: dict[str, Array], found: dict[str, Array]) -> bool:
    """Whether the outputs have the names, shapes and types of before, and are finite where those were."""
    return wanted.keys() == found.keys() and all(
        (a.shape, a.dtype) == (found[k].shape, found[k].dtype)
        and (a.dtype.kind != "f" or bool(np.isfinite(found[k]).all()) >= bool(np.isfinite(a).all()))
        for k, a in wanted.items()
    )


def equal_macs(folders: Folders) -> Rows:
    """Accuracy of the bundled model at about half the MACs, without training, on all test images."""
    source, model = canonical("fashion-resnet")
    assert source.calibration is not None
    data, labels = fashion(folders.fashion)
    full = count(model).macs

    def judged(setting: str, found: Model, **more: Any) -> Row:
        right = run(found, {model.view.inputs[0].name: data}).argmax(axis=1) == labels
        share, top1 = round(count(found).macs / full, 4), round(float(right.mean()), 4)
        return {
            "part": "equal-macs",
            "network": "fashion-resnet",
            "setting": setting,
            "macs": share,
            "top1": top1,
        } | more

    ours = model.copy()
    Pipeline(parse_passes(OURS)).run(ours, Context(calibration=source.calibration))
    yield judged(f"optc {OURS}", ours)
    for method in RANKED:
        say(f"equal-macs: {method}")
        try:
            sparsity, found = _search(method, model, source.calibration, 1.01 * count(ours).macs)
            yield judged(f"onnxsim {method}", found, sparsity=sparsity)
        except Exception as error:  # the peer's failure is a row, too
            row = {"part": "equal-macs", "network": "fashion-resnet", "setting": f"onnxsim {method}"}
            yield row | {"error": _line(error)}


def _search(method: str, model: Model, samples: Samples, most: float) -> tuple[float, Model]:
    """The least sparsity found whose MACs are at most `most`; `RuntimeError` where none has so few."""
    low, high = 0.0, 1.0
    best: Model | None = None
    for step in range(STEPS):
        sparsity = 0.99 if step == 0 else (low + high) / 2
        found = compression_onnxsim.apply(f"prune {method} {sparsity}", model, samples)
        if count(found).macs <= most:
            high, best = sparsity, found
        elif step == 0:
            raise RuntimeError(f"at sparsity {sparsity} it still has {count(found).macs} MACs")
        else:
            low = sparsity
    assert best is not None
    return high, best


def _line(error: Exception) -> str:
    return f"{type(error).__name__}: {error}".splitlines()[0][:200]
