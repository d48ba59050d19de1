"""`optc run`: run an artifact once."""

from __future__ import annotations

from pathlib import Path

import click

from optc.cli.settings import settings_of, verb


@verb("run")
@click.argument("artifact")
@click.option("-i", "--inputs", metavar="IN.npz", help="Inputs by name, batch first; else generated ones.")
@click.option("-o", "--out", metavar="OUT.npz", help="Where the outputs go, by name.")
@click.option("--seed", default=0, show_default=True, help="Of generated inputs.")
@click.pass_context
def command(ctx: click.Context, artifact: str, inputs: str | None, out: str | None, seed: int) -> None:
    """Run an artifact once.

    ARTIFACT is a folder that `optc compile` wrote.
    """
    from optc.cli.arrays import describe_arrays, feeds_for
    from optc.cli.console import console, print_json
    from optc.models.storage import write_beside
    from optc.models.zoo.npz import write_npz
    from optc.targets.artifact import load

    settings = settings_of(ctx)
    loaded = load(artifact)
    outputs = loaded.run(feeds_for(loaded.model, inputs, seed))
    if out is not None:
        with write_beside(Path(out)) as stream:
            write_npz(stream, outputs)
    found = describe_arrays(outputs)
    if settings.json:
        print_json({"outputs": found, "out": out})
    elif not settings.quiet:
        for entry in found:
            console().print(", ".join(f"{k} {v}" for k, v in entry.items()))
