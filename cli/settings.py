"""The flags that every verb takes, before or after its name."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import click


@dataclass
class Settings:
    """How a command talks: `json` on stdout only, `quiet` without summaries, `verbose` with all details."""

    json: bool = False
    quiet: bool = False
    verbose: bool = False
    debug: bool = False


def _note(ctx: click.Context, param: click.Parameter, value: bool) -> None:
    if value:
        settings = ctx.find_root().obj
        setattr(settings, str(param.name), True)


def _version(ctx: click.Context, param: click.Parameter, value: bool) -> None:
    if value and not ctx.resilient_parsing:
        from optc import __version__

        click.echo(f"optc {__version__}")
        ctx.exit()


def common_options() -> list[click.Parameter]:
    """New options for one command: `--json -q -v --debug --version`."""
    return [
        _flag("--json", "Print JSON on stdout, nothing else."),
        _flag("-q", "--quiet", "Print errors only."),
        _flag("-v", "--verbose", "Print every detail."),
        _flag("--debug", "Show the traceback of an error."),
        click.Option(
            ["--version"],
            is_flag=True,
            is_eager=True,
            expose_value=False,
            callback=_version,
            help="Print the version.",
        ),
    ]


def _flag(*texts: str) -> click.Option:
    *names, text = texts
    return click.Option(names, is_flag=True, is_eager=True, expose_value=False, callback=_note, help=text)


def verb(name: str) -> Callable[[Callable[..., Any]], click.Command]:
    """A command with the common flags; its docstring is its help."""

    def wrap(function: Callable[..., Any]) -> click.Command:
        command = click.command(name)(function)
        command.params.extend(common_options())
        return command

    return wrap


def settings_of(ctx: click.Context) -> Settings:
    """The flags given with this call."""
    found = ctx.find_root().obj
    assert isinstance(found, Settings)
    return found
