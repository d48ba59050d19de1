"""`optc inspect --sensitivity`: which layers lose how much by themselves, as a table, JSON or a picture."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from optc.cli.settings import Settings
from optc.models.errors import InputError

if TYPE_CHECKING:
    from optc.models.model import Model
    from optc.models.source import Source
    from optc.passes.quantize.sensitivity import Sensitivity


@dataclass
class Row:
    """A layer: elements of its weight (None of a product), and what each setting costs."""

    layer: str
    op: str
    weights: int | None
    found: dict[str, Sensitivity] = field(default_factory=dict)


def show_sensitivity(
    what: str, settings: Settings, calib: str | None, samples: int | None, plot: str | None
) -> None:
    """Measure, then print, and draw where `plot` names a file; `InputError` before any work is done."""
    from optc.models.storage import save_bytes
    from optc.passes.quantize.sensitivity import SAMPLES

    source = _opened(what, plot)
    count = samples or SAMPLES
    rows = _measured(source, what, calib, count, settings.quiet)
    if plot and rows:
        save_bytes(Path(plot), _drawn(rows, source.name).encode())
    if settings.json:
        _print_json(rows, source, count)
    elif not settings.quiet:
        _print(rows, source.model, count, settings.verbose)


def _opened(what: str, plot: str | None) -> Source:
    from optc.models.source import open_source

    kind = "an artifact" if Path(what).is_dir() else "a VTA program" if what.endswith(".npz") else None
    if kind:
        raise InputError(
            f"{what}: is {kind}; --sensitivity takes the float model it came from (.onnx or zoo:NAME)"
        )
    if plot and (Path(plot).suffix != ".svg" or Path(plot).is_dir()):
        raise InputError(f"{plot}: --plot writes a picture; give it a file name that ends in .svg")
    return open_source(what)


def _measured(source: Source, what: str, calib: str | None, samples: int, quiet: bool) -> list[Row]:
    """The layers of the model, canonical from now on, the worst first; none where there is none."""
    from optc.cli.progress import PassProgress, terminal_progress
    from optc.models.data import Samples
    from optc.passes.base import Context, NoProgress
    from optc.passes.pipeline import Pipeline
    from optc.passes.quantize.sensitivity import sensitive_units, sensitivities
    from optc.passes.registry import parse_passes

    data = Samples(calib) if calib else source.calibration
    with terminal_progress(quiet) as progress:
        watchers = [PassProgress(progress)] if progress else []
        Pipeline(parse_passes("canonicalize")).run(source.model, watchers=watchers)
        if data is None and sensitive_units(source.model):
            raise InputError(
                f"{what}: --sensitivity needs calibration samples; give them with --calib X.npz "
                "(arrays by input name, samples first)"
            )
        context = Context(calibration=data, progress=progress or NoProgress())
        found = sensitivities(source.model, context, samples=samples)
    return sorted(_rows(source.model, found), key=lambda r: next(iter(r.found.values())).output_db)


def _rows(model: Model, found: Sequence[Sensitivity]) -> list[Row]:
    """What was found, a row a layer."""
    from optc.passes.names import layer_name
    from optc.passes.quantize.sensitivity import sensitive_units

    sizes = {layer_name(u.head): u.weight.values.size for u in sensitive_units(model) if u.weight is not None}
    rows: list[Row] = []
    for entry in found:
        if not rows or rows[-1].layer != entry.layer or entry.setting in rows[-1].found:
            rows.append(Row(entry.layer, entry.op, sizes.get(entry.layer)))
        rows[-1].found[entry.setting] = entry
    return rows


def _names(rows: Sequence[Row]) -> list[str]:
    from optc.passes.quantize.sensitivity import SETTINGS

    return [name for name in SETTINGS if any(name in row.found for row in rows)]


def _print(rows: list[Row], model: Model, samples: int, verbose: bool) -> None:
    from optc.cli.console import console, number, print_table
    from optc.cli.tables import db, print_list
    from optc.passes.base import describe
    from optc.passes.quantize.region import find_region

    if not rows:
        console().print("nothing to quantize: the model has no layer that could be integer")
        left = find_region(model, False).left
        print_list(f"{len(left)} nodes stay float", [f"{describe(n)}: {why}" for n, why in left], verbose)
        return

    def cell(entry: Sensitivity | None) -> str:
        if entry is None:
            return ""
        return f"{db(entry.output_db)} ({db(entry.own_db)})" if verbose else db(entry.output_db)

    names = _names(rows)
    lines = [
        [
            r.layer,
            r.op,
            "" if r.weights is None else number(r.weights),
            *(cell(r.found.get(n)) for n in names),
        ]
        for r in rows
    ]
    own = " (in brackets: of the layer's own result)" if verbose else ""
    title = f"SNR of the outputs in dB{own}, one layer quantized, {samples} samples; worst {names[0]} first"
    print_table(["layer", "operator", ">weights", *(f">{n}" for n in names)], lines, title)


def _print_json(rows: list[Row], source: Source, samples: int) -> None:
    from optc.cli.console import print_json

    layers: list[dict[str, Any]] = [
        {
            "layer": r.layer,
            "op": r.op,
            "weights": r.weights,
            "settings": {n: {"own_db": e.own_db, "output_db": e.output_db} for n, e in r.found.items()},
        }
        for r in rows
    ]
    print_json({"model": source.name, "samples": samples, "layers": layers})


def _drawn(rows: list[Row], name: str) -> str:
    from optc.cli.chart import bar_chart

    names = _names(rows)
    bars = [(r.layer, [r.found[n].output_db if n in r.found else None for n in names]) for r in rows]
    return bar_chart(f"{name}: SNR of the outputs in dB, one layer quantized", names, bars)
