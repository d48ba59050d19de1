"""Partitions: how good, how right, how fast, and whether that was predicted.

    python benchmarks/partition.py [PART ...]    gaps, equal, ray, ways; all by default

Writes results/partition_PART.json and results/partition.md. The bars, from the project's goals:
- gaps: pipelines at most 2% above their lower bound on average and 5% at worst, by cluster; never worse than
  equal node counts, equal FLOPs or Olive's SplitModel; 10,000 nodes into 16 stages within 10% in 10 s
- equal: the ranks of seven networks together give what the whole does, K and T from 2 to 8
- ray: a hop of 1 MB under 0.5 ms; two stages on two cores at least 0.85 of the speed-up of two processes;
  throughput as the simulator predicts it within 10%
- ways: no bar; one network in four ways, as docs/parallel.md shows it, with its pictures
`ray` and `ways` need `pip install 'optc[cluster]'` and two cores that nothing else uses. Exit status 1 where
a bar fails.
"""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Callable
from typing import Any

import partition_equal
import partition_gaps
import partition_ray
import partition_ways
from common import RESULTS, header, write

Measured = tuple[list[dict[str, Any]], dict[str, Any]]

PARTS: dict[str, Callable[[], Measured]] = {
    "gaps": partition_gaps.measure,
    "equal": partition_equal.measure,
    "ray": partition_ray.measure,
    "ways": partition_ways.measure,
}
SEEDS = {"inputs": 0, "moves": 0} | {f"made graphs {seed}": seed for seed in partition_gaps.SEEDS}


def holds(bar: Any) -> bool:
    """Whether a bar, or all of a group of bars, holds."""
    if not isinstance(bar, dict):
        return bool(bar)
    return bool(bar["holds"]) if "holds" in bar else all(holds(inner) for inner in bar.values())


def table() -> str:
    """The results that are there, as a page."""
    lines = [
        "# Partitions",
        "",
        "By `python benchmarks/partition.py`; the figures are in `partition_*.json`.",
    ]
    for part in PARTS:
        path = RESULTS / f"partition_{part}.json"
        if path.exists():
            data = json.loads(path.read_text())
            lines += ["", f"## {part}", f"{data['machine']['processor']}, commit {data['commit'][:7]}", ""]
            lines += _bars(data["bars"]) + ROWS[part](data["rows"])
    return "\n".join(lines) + "\n"


def _bars(bars: dict[str, Any]) -> list[str]:
    found = [
        f"- {name}: {'holds' if holds(bar) else 'FAILS'}" for name, bar in bars.items() if name != "gaps"
    ]
    for name, bar in bars.get("gaps", {}).items():
        word = "holds" if bar["holds"] else "FAILS"
        found.append(f"- gaps on {name}: mean {bar['mean']:.2%}, worst {bar['worst']:.2%}: {word}")
    return [*found, ""] if found else []


def _gap_rows(rows: list[dict[str, Any]]) -> list[str]:
    lines = [
        "| graph | cluster | batch | K | slowest stage, ms | gap | speed-up | solved in, s |",
        "|---|---|---|---|---|---|---|---|",
    ]
    for row in rows:
        start = f"| {row['graph']} | {row['cluster']} | {row.get('batch', '')} | {row['stages']} "
        if "failed" in row:
            lines.append(f"{start}| {row['failed']} | | | |")
        else:
            lines.append(
                f"{start}| {row['bottleneck_s'] * 1e3:.3f} | {row['gap']:.2%} | {row['speedup']:.2f} "
                f"| {row['solve_s']} |"
            )
    return lines


def _equal_rows(rows: list[dict[str, Any]]) -> list[str]:
    lines = [
        "| network | D | K | T | parts | collectives | same bits | largest error, off / on |",
        "|---|---|---|---|---|---|---|---|",
    ]
    for row in rows:
        kinds = ", ".join(f"{n} {kind}" for kind, n in row["collectives"].items())
        errors = " / ".join(f"{row['max_error'][o]:.1e}" for o in ("off", "on"))
        lines.append(
            f"| {row['network']} | {row['data']} | {row['stages']} | {row['tensor']} "
            f"| {row['parts']} | {kinds} "
            f"| {'yes' if row['equal_bits'] else 'no'} | {errors} |"
        )
    return lines


def _ray_rows(rows: list[dict[str, Any]]) -> list[str]:
    found = next(row for row in rows if row["measure"] == "pipeline")
    lines = [
        f"- a hop of {r['bytes']} bytes: {r['seconds'] * 1e3:.3f} ms" for r in rows if r["measure"] == "hop"
    ]
    return [
        *lines,
        f"- speed-up over one process: two processes {found['speedup_two_processes']:.2f}, two stages on Ray "
        f"{found['speedup_ray']:.2f}; share {found['share']:.2f}",
        f"- throughput measured / predicted by the simulator: {found['measured_over_predicted']:.3f}",
    ]


def _way_rows(rows: list[dict[str, Any]]) -> list[str]:
    lines = [
        "| way | ranks | parts of a rank | predicted a second | on Ray | speed-up |",
        "|---|---|---|---|---|---|",
    ]
    for row in (r for r in rows if "way" in r):
        each = row["parts"] / (row["ranks"] / row["degrees"].get("data", 1))
        lines.append(
            f"| {row['way']} | {row['ranks']} | {each:.0f} | {row['predicted']:.1f} | {row['measured']:.1f} "
            f"| {row['speedup']:.2f} |"
        )
    return lines


ROWS: dict[str, Callable[[list[dict[str, Any]]], list[str]]] = {
    "gaps": _gap_rows,
    "equal": _equal_rows,
    "ray": _ray_rows,
    "ways": _way_rows,
}


def main() -> int:
    """The exit status."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("part", nargs="*", choices=[[], *PARTS])
    good = True
    for part in parser.parse_args().part or PARTS:
        head = header(["optc", "ray", "onnxruntime", "onnx", "numpy", "numba"], SEEDS)
        rows, bars = PARTS[part]()
        write(f"partition_{part}", head, rows, bars)
        print(bars)
        good &= holds(bars)
        (RESULTS / "partition.md").write_text(table())
    return 0 if good else 1


if __name__ == "__main__":
    sys.exit(main())
