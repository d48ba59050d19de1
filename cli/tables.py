"""The tables that `compile`, `opt`, `verify` and `inspect` print."""

from __future__ import annotations

import math
from collections.abc import Sequence

from optc.cli.console import console, number, print_table, size
from optc.passes.analysis.counts import Counts
from optc.passes.base import Score
from optc.passes.pipeline import Step
from optc.passes.verify.accuracy import Scored
from optc.passes.verify.metrics import Change
from optc.passes.verify.watcher import Row
from optc.targets.base import ENDED, Placement

_SHORT = 8
"""Lines of a list that are shown without -v."""


def print_verification(rows: Sequence[Row], verbose: bool = False, generated: bool = False) -> None:
    """The verification table: one line for each pass, and the artifact; each output with `verbose`.

    `generated`: say that what was compared are results on generated inputs.
    """
    scores = any(r.score for r in rows)
    columns = ["pass", "contract", "changed", ">nodes", ">params", ">MACs", ">bytes", ">max error", ">SNR dB"]
    columns += [*([">accuracy"] if scores else []), ">time", "note"]
    print_table(columns, [_row(r, scores) for r in rows], "verification")
    if generated and any(r.contract.startswith("lossy") and not r.broken for r in rows):
        console().print("on generated inputs, which say little of accuracy; give real ones with -i or --eval")
    for row in rows if verbose else ():
        outputs = [(d.output, _error(d.max_error), db(d.snr_db)) for d in row.outputs]
        if outputs:
            print_table(["output", ">max error", ">SNR dB"], outputs, row.name)


def _row(row: Row, scores: bool) -> list[str]:
    c = row.counts
    kind = row.contract.partition(":")[0]  # what a lossy pass loses stands in --json
    cells = [row.name, kind, "yes" if row.changed else "", number(c.nodes), number(c.parameters)]
    cells += [macs(c), size(c.bytes), _error(row.max_error), db(row.snr_db)]
    note = f"BROKEN: {row.note}" if row.broken else row.note
    return [*cells, *([_value(row.score)] if scores else []), seconds(row.seconds), note]


def _error(value: float | None) -> str:
    return "" if value is None else f"{value:.3g}"


def db(value: float | None) -> str:
    """A ratio in dB; nothing where there is none."""
    if value is None:
        return ""
    return "exact" if value == math.inf else f"{value:.1f}"


def _value(score: Score | None) -> str:
    return "" if score is None else f"{score.value:.4f}"


def macs(counts: Counts) -> str:
    """Multiply-accumulates; `*` where free dimensions count as 1, `+?` where some are not known."""
    return number(counts.macs) + ("*" if counts.free else "") + ("+?" if counts.unknown else "")


def seconds(value: float) -> str:
    """A time in s or ms."""
    return "" if value == 0 else f"{value:.2f} s" if value >= 1 else f"{value * 1e3:.1f} ms"


def print_summary(before: Counts, after: Counts) -> None:
    """Counts before and after."""
    rows = [
        ("nodes", number(before.nodes), number(after.nodes)),
        ("parameters", number(before.parameters), number(after.parameters)),
        ("MACs", macs(before), macs(after)),
        ("bytes", size(before.bytes), size(after.bytes)),
    ]
    print_table(["", ">before", ">after"], rows)
    if before.free or after.free:
        console().print("* free dimensions count as 1")


def print_accuracy(scores: Sequence[Scored]) -> None:
    """The table of accuracy: the input, each lossy pass, the output; changes are paired sample by sample."""
    if not scores:
        return
    first = scores[0].score
    columns = ["after", f">{first.metric}", ">95% interval", ">change", ">p"]
    rows = [[s.name, _value(s.score), _interval(s.score.low, s.score.high)] for s in scores]
    rows = [[*r, *_change(s.since_last)] for r, s in zip(rows, scores, strict=True)]
    if len(scores) > 2:
        columns += [">since input", ">p"]
        rows = [[*r, *_change(s.since_input)] for r, s in zip(rows, scores, strict=True)]
    print_table(columns, rows, f"accuracy on {first.samples} samples")


def _change(found: Change | None) -> tuple[str, str]:
    if found is None:
        return "", ""
    return f"{found.mean:+.4f} {_interval(found.low, found.high, '+')}", f"{found.p:.2g}"


def _interval(low: float, high: float, sign: str = "") -> str:
    return f"[{low:{sign}.4f}, {high:{sign}.4f}]"


def print_steps(steps: Sequence[Step], verbose: bool) -> None:
    """What passes reported, declined, and what the guard took back."""
    out = console()
    for step in steps:
        facts = {k: v for k, v in step.facts.items() if verbose or not isinstance(v, dict | list)}
        text = ", ".join(f"{k} {v:.4g}" if isinstance(v, float) else f"{k} {v}" for k, v in facts.items())
        if text:
            out.print(f"{step.name}: {text}")
        if step.rolled_back:
            out.print(f"{step.name}: rolled back, {step.rolled_back}")
        lines = [f"{d.where}: {d.reason}" for d in step.declined]
        print_list(f"{step.name} left {len(lines)} nodes as they were", lines, verbose)


def print_placement(placement: Sequence[Placement], verbose: bool) -> None:
    """Which nodes run where, how many in integers, and why others do not."""
    total = len(placement)
    taken = sum(p.where == "vta" for p in placement)
    hosted = [f"{p.node}: {p.reason}" for p in placement if p.where == "host"]
    if hosted:
        console().print(f"{taken} of {total} nodes run on VTA")
        reasons = [(p.node, p.reason) for p in placement if p.where == "vta" and p.reason]
        ended = [f"{node}: {reason.removeprefix(ENDED)}" for node, reason in reasons]
        print_list(f"the host ends {len(ended)} of them", ended, verbose)
        print_list(f"{len(hosted)} of {total} nodes run on the host", hosted, verbose)
    islands = [f"{p.node}: {p.reason}" for p in placement if p.where == "island"]
    print_list(f"{len(islands)} of {total} nodes run in ONNX Runtime", islands, verbose)
    integers = sum(p.integer for p in placement)
    floats = [f"{p.node}: {p.float_reason}" for p in placement if p.float_reason is not None]
    if integers:
        console().print(f"{integers} of {total} nodes compute in integers")
    print_list(f"{len(floats)} of {total} nodes compute in float", floats, verbose)


def print_list(title: str, lines: Sequence[str], verbose: bool) -> None:
    """A title and a list under it, shortened without `verbose`; nothing where the list is empty."""
    if not lines:
        return
    out = console()
    shown = lines if verbose else lines[:_SHORT]
    out.print(f"{title}:")
    for line in shown:
        out.print(f"  {line}")
    if len(shown) < len(lines):
        out.print(f"  … and {len(lines) - len(shown)} more (-v shows all)")
