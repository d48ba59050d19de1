"""Where a model comes from: a file, the zoo, or memory; and the data that comes with it."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from optc.models.data import Samples
from optc.models.model import Model

ZOO = "zoo:"


@dataclass(frozen=True)
class Source:
    """A model, a short name for it, and the data that it brings along (None where it brings none).

    `evaluation` is labelled; `metric` is what its labels are for.
    """

    model: Model
    name: str
    calibration: Samples | None = None
    evaluation: Samples | None = None
    metric: str | None = None


def open_source(what: Model | str | Path) -> Source:
    """Open `zoo:NAME`, an `.onnx` file, or take a `Model` as it is.

    Raises `InputError` for what is no model, `MissingError` for a network that was not fetched.
    """
    if isinstance(what, Model):
        return Source(what, what.name or "model")
    if str(what).startswith(ZOO):
        return _zoo(str(what).removeprefix(ZOO))
    return Source(Model.load(what), Path(what).stem or "model")


def _zoo(name: str) -> Source:
    from optc.models.zoo.registry import zoo_entry

    entry = zoo_entry(name)
    calibration, test = (Samples(p) if p else None for p in (entry.calibration, entry.test))
    return Source(Model(entry.build()), name, calibration, test, entry.metric)
