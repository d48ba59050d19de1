"""Names, laziness, and the errors for networks that are not there."""

import subprocess
import sys
from pathlib import Path

import pytest

from optc.models.errors import InputError, MissingError
from optc.models.zoo import registry, zoo_entries, zoo_entry, zoo_names


def test_names_are_distinct_and_described() -> None:
    assert len(set(zoo_names())) == len(zoo_names()) == 22
    assert all(entry.description and entry.licence for entry in zoo_entries())


def test_unknown_name() -> None:
    with pytest.raises(
        InputError, match=r"zoo:resnet19: no such network; the zoo has fashion-resnet, resnet18-v1"
    ):
        zoo_entry("resnet19")


def test_listing_imports_no_builder() -> None:
    code = "import sys; from optc.models.zoo import zoo_entries; zoo_entries(); print(*sys.modules)"
    modules = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout
    loaded = {name for name in modules.split() if name.startswith("optc.models.zoo.")}
    assert loaded == {"optc.models.zoo.registry"}
    assert not {"numpy", "onnx"} & set(modules.split())


def test_not_fetched(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(registry, "cache_folder", lambda: tmp_path)
    with pytest.raises(MissingError, match=r"run: python -m optc.models.zoo.fetch squeezenet1.1$"):
        zoo_entry("squeezenet1.1")
    unfetched = next(entry for entry in zoo_entries() if entry.name == "squeezenet1.1")
    with pytest.raises(MissingError):
        unfetched.build()
    assert unfetched.test is None
