"""Is this machine fit? Each kind of answer."""

from __future__ import annotations

import json
from collections.abc import Callable

import pytest
from click.testing import Result

from optc.cli import machine

Optc = Callable[..., Result]


@pytest.mark.parametrize(
    "found, bounds, fit",
    [
        ("1.23.2", ">=1.23", True),
        ("1.9.0", ">=1.23", False),
        ("2.0", "==2.0.0", True),
        ("0.27.0.post1", "==0.27.0.post1", True),
        ("0.27.0", "==0.27.0.post1", False),
        ("0.27.1", ">0.27.0.post1", True),
        ("1.5", ">=1,<2", True),
        ("2.0", ">=1,<2", False),
        ("3.1", "!=3.1", False),
        ("3.1", "", True),
    ],
)
def test_versions(found: str, bounds: str, fit: bool) -> None:
    assert machine.fits(found, bounds) is fit


def test_a_fit_machine(optc: Optc) -> None:
    result = optc("doctor", "--json")
    assert result.exit_code == 0
    states = {f["what"]: f["state"] for f in json.loads(result.stdout)["findings"]}
    assert states["apache-tvm-ffi"] == "ok" and "GPU" in states
    assert "apache-tvm" in optc("doctor").stdout


def requirements(monkeypatch: pytest.MonkeyPatch, *lines: str) -> None:
    monkeypatch.setattr(machine, "requires", lambda name: list(lines))


def test_a_wrong_pin_is_exit_3_and_says_what_to_do(optc: Optc, monkeypatch: pytest.MonkeyPatch) -> None:
    requirements(monkeypatch, "numpy==0.1", "no-such-package-of-ours>=1")
    result = optc("doctor")
    assert result.exit_code == 3
    assert "needs ==0.1: pip install 'numpy==0.1'" in result.stderr
    assert "no-such-package-of-ours not installed, pip install" in result.stderr
    assert result.stderr.count("\n") == 1


def test_a_missing_extra_costs_something_but_is_no_error(optc: Optc, monkeypatch: pytest.MonkeyPatch) -> None:
    requirements(
        monkeypatch, "numpy", 'no-such-package-of-ours>=1; extra == "cuda"', 'click; extra == "fpga"'
    )
    found = {f["what"]: f for f in json.loads(optc("doctor", "--json").stdout)["findings"]}
    assert found["extra cuda"]["state"] == "missing"
    assert found["extra cuda"]["cost"].endswith("pip install 'optc[cuda]'")
    assert found["extra fpga"]["state"] == "ok"


def test_without_a_gpu(monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(name: str) -> None:
        raise OSError("no such library")

    monkeypatch.setattr(machine.ctypes, "CDLL", fail)
    finding = machine._gpu()
    assert finding.state == "missing" and "do not run here" in finding.cost
