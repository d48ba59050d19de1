"""Calibration: the samples run through the float model, sample by sample, and values are watched."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any, Protocol, TypeVar

import numpy as np
from numpy.typing import NDArray
from onnx import TensorProto, helper

from optc.models.data import Samples
from optc.models.errors import InputError
from optc.models.model import Model
from optc.models.session import Session, check_files
from optc.passes.base import Context
from optc.passes.float_ends import as_given, encoded

Arrays = dict[str, NDArray[Any]]


class Gatherer(Protocol):
    """Takes in the values of one tensor, sample by sample."""

    def add(self, values: NDArray[Any]) -> None:
        """Take in `values`, all finite, any shape."""
        ...


G = TypeVar("G", bound=Gatherer)


def observe(
    model: Model,
    watched: Mapping[str, G],
    context: Context,
    limit: int | None = None,
    who: str = "quantize",
    finite: bool = True,
) -> Mapping[str, G]:
    """Show values of the float `model`, by name, to `watched` over the first `limit` calibration samples.

    One sample is in memory at a time (a batch, where the model's batch is fixed). `who` asks, for messages.
    Returns `watched`. Raises `InputError` where there are no samples, where they do not fit the inputs, where
    NaN or infinity turns up, naming tensor and sample (inner values may be both where not `finite`), and
    where a watched float input was one number everywhere.
    """
    session = Session(_watching(model, list(watched)), optimize=True)
    names = {t.name for t in model.view.inputs}
    outputs = [n for n in watched if n not in names]
    constants = _Constants()
    for where, feeds in calibration_feeds(model, context, limit, who):
        for name, values in _run(session, feeds, outputs):
            if finite:
                _check_finite(values, f"{where}: makes '{name}' NaN or infinite")
            watched[name].add(values)
        for name in names:
            if name in watched:
                watched[name].add(feeds[name])
                constants.add(name, feeds[name])
    constants.check(context.calibration)
    return watched


def calibration_feeds(
    model: Model, context: Context, limit: int | None = None, who: str = "quantize", what: str = "calibrating"
) -> Iterator[tuple[str, Arrays]]:
    """The first `limit` calibration samples as inputs of `model`, each with where it comes from.

    Raises `InputError` where there are none, or they do not fit, or hold NaN or infinity, or where each float
    input is one number everywhere.
    """
    samples = context.calibration
    if samples is None:
        raise InputError(f"{who} needs calibration samples: give them with --calib SAMPLES.npz")
    names = check_files(as_given(model, samples.members), samples)
    size = _batch(model, samples)
    total = samples.length if limit is None else max(min(limit, samples.length), size)
    batches, runs = samples.batches(names, size, total), samples.batch_count(names, size, total)
    constants, first, used = _Constants(), 0, 0
    for feeds in context.progress.track(batches, what, runs):
        count = next((len(values) for values in feeds.values()), size)
        where = ": ".join(map(str, samples.place(first, count)))
        first += count
        if count < size:
            continue
        for name, values in feeds.items():
            _check_finite(values, f"{where}: array '{name}' holds NaN or infinity")
        for name, values in feeds.items():
            constants.add(name, values)
        used += count
        yield where, encoded(model, feeds)
    if not used:
        raise InputError(
            f"{samples.path}: one run of the model takes {size} samples of one shape, none has so many"
        )
    if not constants.varied:
        constants.check(samples)


def _run(session: Session, feeds: Arrays, outputs: list[str]) -> Iterator[tuple[str, NDArray[Any]]]:
    yield from (session.run(feeds, outputs) if outputs else {}).items()


class _Constants:
    """The float inputs that have been one and the same number so far."""

    def __init__(self) -> None:
        self._values: dict[str, float] = {}
        self.varied: set[str] = set()

    def add(self, name: str, values: NDArray[Any]) -> None:
        """Take in an input of a run."""
        if name in self.varied or not values.size or not np.issubdtype(values.dtype, np.floating):
            return
        if np.any(values != self._values.setdefault(name, values.flat[0])):
            self.varied.add(name)

    def check(self, samples: Samples | None) -> None:
        """`InputError` naming the first of them: no range can be calibrated from it."""
        for name, value in self._values.items():
            if name not in self.varied:
                where = samples.path if samples else "calibration"
                raise InputError(
                    f"{where}: array '{name}' is {value:g} everywhere in all samples used; "
                    "no range can be calibrated from it, give real data"
                )


def _check_finite(values: NDArray[Any], message: str) -> None:
    if not np.issubdtype(values.dtype, np.floating) or not values.size:
        return
    if not (np.isfinite(values.min()) and np.isfinite(values.max())):
        raise InputError(message)


def _batch(model: Model, samples: Samples) -> int:
    """Samples a run: 1, or the batch that the inputs' shapes fix."""
    fixed = {t.shape[0] for t in model.view.inputs if t.shape and isinstance(t.shape[0], int)}
    if len(fixed) > 1:
        raise InputError(
            f"model '{model.name}': its inputs have different batches {sorted(fixed)}; bind them to one"
        )
    size = max(fixed.pop() if fixed else 1, 1)
    if samples.length < size:
        raise InputError(f"{samples.path}: has {samples.length} samples, one run of the model takes {size}")
    return int(size)


def _watching(model: Model, names: list[str]) -> Model:
    """`model` with the named values as outputs too."""
    proto = model.to_proto(embed=False)
    ends = {o.name for o in (*proto.graph.output, *proto.graph.input)}
    proto.graph.output.extend(
        helper.make_tensor_value_info(n, TensorProto.FLOAT, None) for n in names if n not in ends
    )
    return Model(proto, model.folder)
