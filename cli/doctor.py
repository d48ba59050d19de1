"""`optc doctor`: is this machine fit, and what does each missing thing cost?"""

from __future__ import annotations

import dataclasses

import click

from optc.cli.settings import settings_of, verb


@verb("doctor")
@click.pass_context
def command(ctx: click.Context) -> None:
    """Check whether this machine is fit.

    Versions and pins, compiler, GPU and extras, and what each missing thing costs.

    Exit status 3 where the base cannot work here.
    """
    from optc.cli.console import print_json, print_table
    from optc.cli.machine import examine
    from optc.models.errors import MissingError

    settings = settings_of(ctx)
    findings = examine()
    bad = [f for f in findings if f.state == "bad"]
    if settings.json:
        if not bad:
            print_json({"findings": [dataclasses.asdict(f) for f in findings]})
    elif not settings.quiet:
        print_table(["what", "found", "state", "what it costs"], [dataclasses.astuple(f) for f in findings])
    if bad:
        names = "; ".join(f"{f.what} {f.found}, {f.cost}" for f in bad)
        raise MissingError(f"not fit: {names}")
