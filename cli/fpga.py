"""What a bitstream takes of its part, and what a run takes on it."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any


def report_of(folder: Path) -> dict[str, Any] | None:
    """The report in an artifact of `fpga`; None where it is none."""
    path = folder / "report.json"
    found: dict[str, Any] | None = json.loads(path.read_text(encoding="utf-8")) if path.is_file() else None
    return found


def print_report(found: dict[str, Any]) -> None:
    """Resources, the clock and its critical path, and what one sample takes."""
    from optc.cli.console import console, print_table

    used, available = found["used"], found["available"]
    rows = [
        (name.replace("_", " "), str(used[name]), str(available[name]), f"{used[name] / available[name]:.0%}")
        for name in used
    ]
    print_table([f"{found['board']}", ">used", ">of", ">share"], rows)
    path = found["critical_path"]
    out = console()
    out.print(f"highest clock {found['max_mhz']:.1f} MHz, aimed at {found['target_mhz']:g}; {_ends(path)}")
    if "cycles" in found:
        energy = found["energy"]
        out.print(
            f"{found['cycles']:,} cycles a sample, {found['milliseconds']:.2f} ms at {found['mhz']:.1f} MHz, "
            f"{found['gmac_per_second']:.2f} GMAC/s, about {energy['millijoules']:.2f} mJ ({energy['how']})"
        )


def _ends(path: list[dict[str, Any]]) -> str:
    if not path:
        return "no critical path was reported"
    cells = [str(step[side]["cell"]) for step in path for side in ("from", "to") if side in step]
    return f"critical path from {cells[0]} to {cells[-1]}"
