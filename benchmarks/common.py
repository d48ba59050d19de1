"""What every benchmark's JSON begins with: the commit, the command, the versions, the seeds, the machine."""

from __future__ import annotations

import json
import os
import platform
import subprocess
import sys
from collections.abc import Mapping, Sequence
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

RESULTS = Path(__file__).parent / "results"


def header(packages: Sequence[str], seeds: Mapping[str, int]) -> dict[str, Any]:
    """Commit, command line, package versions, seeds and machine, as JSON types."""
    return {
        "commit": _commit(),
        "command": " ".join(["python", f"benchmarks/{Path(sys.argv[0]).name}", *sys.argv[1:]]),
        "versions": {"python": platform.python_version()} | {name: _version(name) for name in packages},
        "seeds": dict(seeds),
        "machine": machine(),
    }


def machine() -> dict[str, Any]:
    """Processor, cores that this process may use, memory in GiB, system."""
    memory = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 2**30
    return {
        "processor": _processor(),
        "cores": len(os.sched_getaffinity(0)),
        "memory_gib": round(memory, 1),
        "system": f"{platform.system()} {platform.machine()}",
    }


def write(
    name: str, head: Mapping[str, Any], rows: Sequence[Mapping[str, Any]], bars: Mapping[str, Any]
) -> Path:
    """Write `results/NAME.json`: the header, whether each bar holds, and every row; returns the path."""
    RESULTS.mkdir(exist_ok=True)
    path = RESULTS / f"{name}.json"
    path.write_text(json.dumps({**head, "bars": bars, "rows": rows}, indent=1) + "\n")
    return path


def _commit() -> str:
    """The commit, with `+changes` where the working tree differs from it; "unknown" outside a clone."""
    here = Path(__file__).parent
    try:
        commit = subprocess.run(
            ["git", "rev-parse", "HEAD"], cwd=here, capture_output=True, text=True, check=True
        ).stdout.strip()
        dirty = subprocess.run(
            ["git", "status", "--porcelain", "--untracked-files=no"],
            cwd=here,
            capture_output=True,
            text=True,
            check=True,
        ).stdout.strip()
    except (OSError, subprocess.CalledProcessError):
        return "unknown"
    return commit + ("+changes" if dirty else "")


def _version(name: str) -> str:
    try:
        return version(name)
    except PackageNotFoundError:
        return "not installed"


def _processor() -> str:
    try:
        for line in Path("/proc/cpuinfo").read_text().splitlines():
            if line.startswith("model name"):
                return line.partition(":")[2].strip()
    except OSError:
        pass
    return platform.processor()
