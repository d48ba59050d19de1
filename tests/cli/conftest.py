"""The command line in this process."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
from click.testing import CliRunner, Result

from optc.cli.main import main

Optc = Callable[..., Result]


@pytest.fixture
def optc(tmp_path: Path, tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch) -> Optc:
    """Run `optc` with these arguments in an empty folder; exit status, stdout and stderr come back."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path_factory.mktemp("cache")))

    def run(*args: str | Path) -> Result:
        return CliRunner().invoke(main, [str(a) for a in args], prog_name="optc")

    return run
