"""`optc verify`: do two models or artifacts compute the same?"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

import click

from optc.cli.settings import settings_of, verb

if TYPE_CHECKING:
    from optc.models.model import Model
    from optc.models.session import Arrays


@verb("verify")
@click.argument("a")
@click.argument("b")
@click.option("-i", "--inputs", metavar="IN.npz", help="Inputs by name; else generated from A's input types.")
@click.option("--seed", type=click.IntRange(min=0), default=0, show_default=True, help="Of generated inputs.")
@click.pass_context
def command(ctx: click.Context, a: str, b: str, inputs: str | None, seed: int) -> None:
    """Compare two models or artifacts on the same inputs.

        Integers have to be equal, floats within the tolerance of an exact pass. Where an artifact takes part,
    floats within what a compiler owes, and the outputs of a quantized model within 20 dB. Exit status 1
    where they differ by more.
    """
    from optc.cli.arrays import feeds_for
    from optc.cli.console import print_json, print_table
    from optc.models.errors import CheckError
    from optc.passes.base import Exact
    from optc.passes.verify.compare import compare
    from optc.passes.verify.watcher import contract_text
    from optc.targets.agreement import agreement, breach

    settings = settings_of(ctx)
    (model, run_a), (_, run_b) = _open(a), _open(b)
    feeds = feeds_for(model, inputs, seed)
    built = Path(a).is_dir() or Path(b).is_dir()
    contract = agreement(model) if built else Exact()
    differences = compare(run_a(feeds), run_b(feeds), contract)
    rows = [
        {"output": d.output, "max_error": d.max_error, "snr_db": d.snr_db, "broken": breach([d], contract)}
        for d in differences
    ]
    broken = breach(differences, contract)
    if settings.json and not broken:
        print_json({"contract": contract_text(contract), "outputs": rows})
    elif not settings.json and not settings.quiet:
        lines = [(d.output, f"{d.max_error:.3g}", f"{d.snr_db:.1f}", d.broken or "") for d in differences]
        print_table(["output", ">max error", ">SNR dB", "verdict"], lines)
    if broken:
        raise CheckError(f"{a} and {b} differ: {broken}")


def _open(path: str) -> tuple[Model, Callable[[Arrays], Arrays]]:
    """The model at `path`, or in the artifact there, and what runs it."""
    from optc.models.session import Session
    from optc.models.source import open_source
    from optc.targets.artifact import load

    if Path(path).is_dir():
        artifact = load(path)
        return artifact.model, artifact.runner().run
    model = open_source(path).model
    return model, Session(model).run
