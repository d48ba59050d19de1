"""Tables and lines on stdout; rich is imported on the first use."""

from __future__ import annotations

import json
import sys
from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING, Any

from optc.passes.verify.report import json_value

if TYPE_CHECKING:
    from rich.console import Console

_PIPED_WIDTH = 240
"""Columns where stdout is no terminal, so that nothing is cut."""


def console(stderr: bool = False) -> Console:
    """A console that is plain where its stream is no terminal."""
    from rich.console import Console

    stream = sys.stderr if stderr else sys.stdout
    width = None if stream.isatty() else _PIPED_WIDTH
    return Console(stderr=stderr, width=width, highlight=False, markup=False, emoji=False)


def print_json(value: Any) -> None:
    """`value` as JSON on stdout."""
    print(json.dumps(json_value(value), indent=1, ensure_ascii=False))


def print_table(columns: Sequence[str], rows: Iterable[Sequence[str]], title: str | None = None) -> None:
    """A table on stdout; a column whose name begins with `>` is aligned to the right."""
    from rich import box
    from rich.table import Table

    out = console()
    table = Table(title=title, title_justify="left", box=box.SIMPLE_HEAD, pad_edge=False, padding=(0, 0))
    for name in columns:
        right = name.startswith(">")
        # Figures stay whole; texts fold where the terminal is narrow.
        table.add_column(
            name.lstrip(">"), justify="right" if right else "left", overflow="fold", no_wrap=right
        )
    for row in rows:
        table.add_row(*row)
    out.print(table)


def number(value: int | float) -> str:
    """A count with a unit: 1.23 M, 456 k."""
    for limit, unit in ((1e9, " G"), (1e6, " M"), (1e4, " k")):
        if abs(value) >= limit:
            scale = 1e3 if unit == " k" else limit
            return f"{value / scale:.4g}{unit}"
    return f"{value:g}"


def size(value: int) -> str:
    """Bytes with a unit."""
    for limit, unit in ((2**30, "GiB"), (2**20, "MiB"), (2**10, "KiB")):
        if value >= limit:
            return f"{value / limit:.3g} {unit}"
    return f"{value} B"
