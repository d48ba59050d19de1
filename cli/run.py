"""`optc run`: run an artifact once, or a plan on its micro-batches."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click

from optc.cli.run_plan import run_plan
from optc.cli.settings import settings_of, verb


@verb("run")
@click.argument("artifact", metavar="DIR|PLAN")
@click.option("-i", "--inputs", metavar="IN.npz", help="Inputs by name, batch first; else generated ones.")
@click.option("-o", "--out", metavar="OUT.npz", help="Where the outputs go, by name.")
@click.option("--seed", type=click.IntRange(min=0), default=0, show_default=True, help="Of generated inputs.")
@click.option(
    "--device", metavar="fsim|timed|rtl", help="vta, fpga: the simulator; fpga also: board, netlist."
)
@click.option(
    "--engine", type=click.Choice(["local", "ray"]), help="Of a PLAN: in this process (local), or on Ray."
)
@click.option("--address", metavar="HOST:PORT", help="ray: join this cluster; else start one here.")
@click.option("--profile", is_flag=True, help="vta: show where the cycles go, layer by layer (timed).")
@click.pass_context
def command(
    ctx: click.Context,
    /,
    artifact: str,
    inputs: str | None,
    out: str | None,
    seed: int,
    device: str | None,
    engine: str | None,
    address: str | None,
    profile: bool,
) -> None:
    """Run an artifact once, or a plan on its micro-batches.

    DIR is a folder that `optc compile` wrote, PLAN one that `optc partition` wrote: its inputs are cut into
    micro-batches along their first axis.
    """
    from optc.cli.arrays import describe_arrays, feeds_for
    from optc.cli.compile import with_options
    from optc.cli.console import console, print_json
    from optc.cli.profile import print_profile, profile_json
    from optc.models.storage import write_beside
    from optc.models.zoo.npz import write_npz
    from optc.targets.artifact import load
    from optc.targets.cluster.plan_folder import is_plan

    settings = settings_of(ctx)
    if address is not None and engine != "ray":
        raise click.UsageError("--address goes with --engine ray")
    if is_plan(artifact):
        if device or profile:
            raise click.UsageError(
                "--device and --profile go with an artifact; a plan's ranks have their own"
            )
        run_plan(artifact, inputs, out, seed, engine or "local", address, settings)
        return
    if engine is not None:
        raise click.UsageError("--engine goes with a plan, which optc partition writes")
    loaded = load(artifact)
    target: Any = with_options(loaded.target, device=device or ("timed" if profile else None))
    runner = target.runner(loaded)
    outputs = runner.run(feeds_for(loaded.model, inputs, seed))
    if out is not None:
        with write_beside(Path(out)) as stream:
            write_npz(stream, outputs)
    found = describe_arrays(outputs)
    if settings.json:
        print_json({"outputs": found, "out": out} | profile_json(runner, profile))
    elif not settings.quiet:
        for entry in found:
            console().print(", ".join(f"{k} {v}" for k, v in entry.items()))
        print_profile(runner, profile)
