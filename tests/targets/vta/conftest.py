"""Tests of VTA leave the user's cache alone."""

from __future__ import annotations

import pytest

from optc.targets.vta.compiler import search


@pytest.fixture(scope="session", autouse=True)
def _no_disk() -> None:
    search.forget()
