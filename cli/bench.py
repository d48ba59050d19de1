"""`optc bench`: measure an artifact beside ONNX Runtime."""

from __future__ import annotations

import click

from optc.cli.settings import settings_of, verb


@verb("bench")
@click.argument("artifact")
@click.option("-i", "--inputs", metavar="IN.npz", help="Inputs by name, batch first; else generated ones.")
@click.option("--seed", type=click.IntRange(min=0), default=0, show_default=True, help="Of generated inputs.")
@click.pass_context
def command(ctx: click.Context, artifact: str, inputs: str | None, seed: int) -> None:
    """Measure an artifact beside ONNX Runtime.

    Both run the same model on the same inputs.
    """
    from optc.cli.arrays import feeds_for
    from optc.cli.console import print_json, print_table
    from optc.cli.tables import seconds
    from optc.targets.artifact import load
    from optc.targets.bench import bench

    settings = settings_of(ctx)
    loaded = load(artifact)
    rows = bench(loaded, feeds_for(loaded.model, inputs, seed))
    if settings.json:
        print_json({"artifact": artifact, "rows": rows})
        return
    lines = [
        (name, *(seconds(row[key]) for key in ("median", "low", "high")), f"{row['ratio']:.2f}")
        for name, row in rows.items()
    ]
    print_table(["what runs", ">median", ">fastest", ">slowest", ">× ONNX Runtime"], lines)
