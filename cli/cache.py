"""`optc cache`: what is kept on this machine, and how to clear it."""

from __future__ import annotations

from typing import TYPE_CHECKING

import click

from optc.cli.settings import settings_of, verb
from optc.models.errors import InputError

if TYPE_CHECKING:
    from pathlib import Path


@verb("cache")
@click.argument("action", type=click.Choice(["show", "clear"]), default="show")
@click.pass_context
def command(ctx: click.Context, action: str) -> None:
    """Show what is cached, or clear it.

    `optc cache` shows the folder and its size; `optc cache clear` empties it.
    """
    from optc.cli.console import console, print_json, size
    from optc.models.zoo.registry import cache_folder

    settings = settings_of(ctx)
    folder = cache_folder().parent
    files = [p for p in sorted(folder.rglob("*")) if p.is_file()] if folder.is_dir() else []
    total = sum(p.stat().st_size for p in files)
    if action == "clear":
        _clear(folder)
    if settings.json:
        print_json({"folder": str(folder), "files": len(files), "bytes": total, "cleared": action == "clear"})
    elif not settings.quiet:
        done = "cleared: " if action == "clear" else ""
        console().print(f"{folder}: {done}{len(files)} files, {size(total)}")


def _clear(folder: Path) -> None:
    import shutil

    if folder.is_symlink():
        raise InputError(f"{folder}: is a link; it is not followed, clear it by hand")
    try:
        shutil.rmtree(folder)
    except FileNotFoundError:
        return
    except OSError as error:
        raise InputError(f"{folder}: cannot be cleared ({error.strerror})") from error
