"""The command `optc`: verbs load when they are called, and every error is one line with its exit status."""

from __future__ import annotations

import os
import sys
from collections.abc import Sequence
from importlib import import_module
from typing import Any, NoReturn

import click

from optc.cli.settings import Settings, common_options
from optc.models.errors import OptcError

VERBS = (
    "compile",
    "opt",
    "partition",
    "simulate",
    "run",
    "bench",
    "inspect",
    "list",
    "verify",
    "vta",
    "doctor",
    "cache",
)
"""The modules of this package that hold a `command`, in the order of the help."""

INTERRUPTED = 130
"""Exit status after Ctrl-C, as shells count it: 128 + SIGINT."""


class Verbs(click.Group):
    """The group of all verbs; `main` turns every failure into a line on stderr and an exit status."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        """The verbs in the order of the help."""
        return list(VERBS)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        """Load one verb's module."""
        if cmd_name not in VERBS:
            return None
        command: click.Command = import_module(f"optc.cli.{cmd_name}").command
        return command

    def main(  # type: ignore[override]
        self, args: Sequence[str] | None = None, prog_name: str | None = None, **extra: Any
    ) -> NoReturn:
        """Run, then exit with 0, 1 (a check failed), 2 (bad input) or 3 (something is missing here)."""
        settings = Settings()
        extra.pop("standalone_mode", None)
        try:
            result = super().main(args, prog_name or "optc", standalone_mode=False, obj=settings, **extra)
            sys.stdout.flush()
            status = result if isinstance(result, int) else 0
        except (KeyboardInterrupt, click.Abort):
            status = _complain(settings, "interrupted", INTERRUPTED)
        except BrokenPipeError:
            # Whoever read our output has had enough; nothing more may be written there, not even at exit.
            os.dup2(os.open(os.devnull, os.O_WRONLY), 1)
            status = 1
        except Exception as error:
            if settings.debug:
                import traceback

                traceback.print_exc()
            status = _fail(settings, error)
        sys.exit(status)


def _fail(settings: Settings, error: Exception) -> int:
    if isinstance(error, OptcError):
        rows = getattr(error, "rows", None)
        return _complain(settings, str(error), error.exit_status, rows)
    if isinstance(error, click.UsageError):
        command = error.ctx.command_path if error.ctx else "optc"
        return _complain(settings, f"{error.format_message()} (see: {command} --help)", 2)
    if isinstance(error, click.ClickException):
        return _complain(settings, error.format_message(), 2)
    if isinstance(error, OSError):
        where = f"{error.filename}: " if error.filename else ""
        return _complain(settings, f"{where}{error.strerror or error}", 2)
    hint = "" if settings.debug else "; --debug shows where"
    return _complain(settings, f"internal error: {type(error).__name__}: {error}{hint}", 1)


def _complain(settings: Settings, message: str, status: int, rows: Any = None) -> int:
    """One line on stderr, and with `--json` the same as an object on stdout."""
    line = " ".join(message.split())
    print(f"optc: {line}", file=sys.stderr)
    if settings.json:
        from optc.cli.console import print_json
        from optc.passes.verify.report import row_json

        table = {"verification": [row_json(r) for r in rows]} if rows else {}
        print_json({"error": line, "exit_status": status, **table})
    return status


@click.group(
    cls=Verbs,
    invoke_without_command=True,
    params=common_options(),
    context_settings={"help_option_names": ["-h", "--help"]},
)
@click.pass_context
def main(ctx: click.Context) -> None:
    """Lower what a neural network costs to run: checked ONNX passes, compiled by Apache TVM.

    Exit status: 0 done; 1 a check failed; 2 bad usage or input; 3 something is missing on this machine.
    """
    if ctx.invoked_subcommand is None:
        click.echo(ctx.get_help())
