"""The wheel holds what the tree holds, and the tests run against the installed package."""

from __future__ import annotations

import site
import tomllib
from pathlib import Path

import optc

ROOT = Path(__file__).resolve().parents[1]
FOLDERS = ("cli", "models", "passes", "targets")
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())


def test_the_package_under_test_is_the_installed_one() -> None:
    """`pip install '.[test]' && pytest`, never an editable install: a file missing from the wheel shows."""
    where = Path(optc.__file__).resolve()
    assert any(where.is_relative_to(Path(s).resolve()) for s in site.getsitepackages()), where


def test_every_folder_with_python_files_is_listed() -> None:
    folders = {p.parent for f in FOLDERS for p in (ROOT / f).rglob("*.py") if "__pycache__" not in p.parts}
    expected = {"optc", *("optc." + ".".join(p.relative_to(ROOT).parts) for p in folders)}
    assert set(PROJECT["tool"]["setuptools"]["packages"]) == expected


def test_links_are_their_folders() -> None:
    for folder in FOLDERS:
        assert (ROOT / "src/optc" / folder).resolve() == (ROOT / folder).resolve()


def test_every_file_of_the_tree_is_installed() -> None:
    installed = Path(optc.__file__).resolve().parent
    for folder in FOLDERS:
        for path in (ROOT / folder).rglob("*"):
            if path.is_file() and "__pycache__" not in path.parts:
                assert (installed / path.relative_to(ROOT)).is_file(), f"{path} is missing from the wheel"
    assert (installed / "py.typed").is_file()


def test_arrows_between_layers_point_down() -> None:
    """cli → targets → passes → models: no file imports a higher layer."""
    for rank, folder in enumerate(FOLDERS):
        lower = {"cli": 0, "targets": 1, "passes": 2, "models": 3}
        for path in (ROOT / folder).rglob("*.py"):
            for name, other in lower.items():
                if other < lower[folder]:
                    assert f"optc.{name}" not in path.read_text().replace(f'"optc.{name}"', ""), (
                        path,
                        name,
                        rank,
                    )
