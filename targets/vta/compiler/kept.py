"""Tilings that were found before, on disk: one small file each, in the folder that `optc cache` clears.

A file's name is the hash of all that the search depends on, the compiler's own source included, so that
what another version found is never read.
"""

from __future__ import annotations

import hashlib
import json
from dataclasses import asdict
from functools import cache
from pathlib import Path
from typing import Any

from optc.models import storage
from optc.models.errors import InputError
from optc.models.zoo.registry import cache_folder
from optc.targets.vta import isa, timing
from optc.targets.vta.compiler.cuts import Buffers, Tiling

Found = tuple[Tiling, int]
"""A tiling, and the cycles of its stage."""


def load(signature: bytes, machine: object) -> Found | None:
    """What was found for a stage of that signature; None where nothing readable is there."""
    try:
        entry = json.loads(_path(signature, machine).read_text())
        return _tiling(entry["tiling"]), int(entry["cycles"])
    except (OSError, ValueError, KeyError, TypeError):
        return None


def save(signature: bytes, machine: object, found: Found) -> None:
    """Keep what was found, where the disk lets us."""
    path = _path(signature, machine)
    entry = {"tiling": asdict(found[0]), "cycles": found[1]}
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with storage.write_beside(path) as beside:
            beside.write(json.dumps(entry).encode())
    except (OSError, InputError):
        return  # it is found again next time


def _path(signature: bytes, machine: object) -> Path:
    key = hashlib.sha256(signature + repr(machine).encode() + _source())
    return cache_folder().parent / "tilings" / f"{key.hexdigest()[:32]}.json"


@cache
def _source() -> bytes:
    """A hash of the modules that a search runs through."""
    digest = hashlib.sha256()
    folders = Path(__file__).parent, Path(timing.__file__).parent
    sources = [path for folder in folders for path in sorted(folder.glob("*.py"))]
    for path in [*sources, Path(isa.__file__)]:
        digest.update(path.read_bytes())
    return digest.digest()


def _tiling(entry: dict[str, Any]) -> Tiling:
    buffers = {n: tuple(Buffers(**b) for b in entry[n]) for n in ("inputs", "weights")}
    return Tiling(**entry | buffers | {"part_blocks": tuple(entry["part_blocks"])})
