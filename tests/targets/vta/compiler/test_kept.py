"""Tilings on disk: read again, never wrong, never in the way."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from qdq import Qdq, codes
from regions_of import compiled

from optc.models.model import Model
from optc.targets.vta.compiler import kept, search


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Any:
    """An empty cache, asked by a search that remembers nothing."""
    monkeypatch.setattr(kept, "cache_folder", lambda: tmp_path / "zoo")
    search.forget(disk=False)
    yield tmp_path / "tilings"
    search.forget(disk=False)


def network() -> Model:
    net = Qdq()
    rng = np.random.default_rng(0)
    value = net.input((1, 20, 9, 9))
    for out in (40, 20):
        weight = codes(rng, (out, 20 if out == 40 else 40, 3, 3))
        value = net.code(net.layer("Conv", value, weight, -10, pads=[1] * 4), 0)
    return net.model(value)


def instructions() -> list[bytes]:
    return [p.instructions.tobytes() for p in compiled(network()).programs.values()]


def count_searches(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    real, searched = search._search, list[str]()

    def counted(stage: Any, machine: Any) -> Any:
        searched.append(stage.label)
        return real(stage, machine)

    monkeypatch.setattr(search, "_search", counted)
    return searched


def test_the_same_program_from_memory_disk_and_search(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    searched = count_searches(monkeypatch)
    first = instructions()
    assert len(searched) == 2 == len(list(folder.iterdir()))
    search.forget(disk=False)
    assert instructions() == first
    assert len(searched) == 2
    search.forget()
    assert instructions() == first
    assert len(searched) == 4


@pytest.mark.parametrize("damage", [b"", b"{", b"[]", b"{}", b'{"tiling": {}, "cycles": 1}', b"\xff"])
def test_a_damaged_file_is_written_again(folder: Path, damage: bytes) -> None:
    first = instructions()
    files = {p: p.read_bytes() for p in folder.iterdir()}
    for path in files:
        path.write_bytes(damage)
    search.forget(disk=False)
    assert instructions() == first
    assert {p: p.read_bytes() for p in folder.iterdir()} == files


def test_a_folder_that_cannot_be_written(folder: Path) -> None:
    folder.write_text("a file in its place")
    assert instructions()
    assert folder.is_file()


def test_another_compiler_reads_nothing(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    instructions()
    monkeypatch.setattr(kept, "_source", lambda: b"another")
    search.forget(disk=False)
    searched = count_searches(monkeypatch)
    instructions()
    assert len(searched) == 2
