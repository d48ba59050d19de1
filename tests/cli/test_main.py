"""What all verbs share: help, common flags, errors on one line, exit statuses."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import click
import pytest
from click.testing import Result

from optc import __version__
from optc.cli.main import VERBS, main

Optc = Callable[..., Result]
COMMAND = [sys.executable, "-c", "from optc.cli.main import main; main()"]


def test_help_lists_every_verb_with_its_first_sentence(optc: Optc) -> None:
    result = optc("--help")
    assert result.exit_code == 0
    for name in VERBS:
        line = next(x for x in result.stdout.splitlines() if x.startswith(f"  {name} "))
        assert line.endswith(".") and not line.endswith("...")
    assert optc().stdout == result.stdout


@pytest.mark.parametrize("name", VERBS)
def test_every_verb_has_help_and_the_common_flags(optc: Optc, name: str) -> None:
    result = optc(name, "--help")
    assert result.exit_code == 0
    for flag in ("--json", "-q, --quiet", "-v, --verbose", "--debug", "--version"):
        assert flag in result.stdout
    command = main.get_command(click.Context(main), name)
    assert command is not None and command.help


@pytest.mark.parametrize("args", [("--version",), ("list", "--version"), ("--version", "list")])
def test_version(optc: Optc, args: tuple[str, ...]) -> None:
    result = optc(*args)
    assert (result.exit_code, result.stdout) == (0, f"optc {__version__}\n")


@pytest.mark.parametrize(
    "args", [("--json", "list", "zoo"), ("list", "--json", "zoo"), ("list", "zoo", "--json")]
)
def test_common_flags_before_and_after_the_verb(optc: Optc, args: tuple[str, ...]) -> None:
    assert json.loads(optc(*args).stdout)["zoo"]


@pytest.mark.parametrize(
    "args, text",
    [
        (("compil",), "No such command 'compil'"),
        (("compile",), "Missing argument 'MODEL'"),
        (("compile", "a.onnx"), "Missing option '--target'"),
        (("opt", "a.onnx", "-o", "b", "--seed", "x"), "'x' is not a valid integer"),
        (("list", "planets"), "'planets' is not one of 'passes', 'targets', 'zoo'"),
        (("run", "a", "--nothing"), "No such option"),
        (("opt", "a.onnx", "-p", "prune", "--recipe", "r", "-o", "b"), "give -p or --recipe, not both"),
    ],
)
def test_bad_usage_is_one_line(optc: Optc, args: tuple[str, ...], text: str) -> None:
    result = optc(*args)
    assert result.exit_code == 2
    assert result.stdout == ""
    assert result.stderr.startswith("optc: ") and text in result.stderr
    assert result.stderr.count("\n") == 1 and "--help" in result.stderr


def test_errors_as_json(optc: Optc) -> None:
    result = optc("inspect", "none.onnx", "--json")
    found = json.loads(result.stdout)
    assert result.exit_code == found["exit_status"] == 2
    assert result.stderr == f"optc: {found['error']}\n"


def test_internal_errors_are_one_line_too(optc: Optc, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(path: str) -> None:
        raise KeyError("deep inside\nsecond line")

    monkeypatch.setattr("optc.models.source.open_source", fail)
    result = optc("inspect", "a.onnx")
    assert result.exit_code == 1
    assert result.stderr.startswith("optc: internal error: KeyError: ") and result.stderr.count("\n") == 1
    assert "Traceback" in optc("inspect", "a.onnx", "--debug").stderr


def test_debug_shows_the_traceback_of_user_errors(optc: Optc) -> None:
    assert "Traceback" not in optc("inspect", "none.onnx").stderr
    assert "Traceback" in optc("--debug", "inspect", "none.onnx").stderr


def test_interrupt(optc: Optc, monkeypatch: pytest.MonkeyPatch) -> None:
    def interrupt(path: str) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr("optc.models.source.open_source", interrupt)
    result = optc("inspect", "a.onnx")
    assert (result.exit_code, result.stderr.strip()) == (130, "optc: interrupted")


def test_control_c_leaves_no_half_output(tmp_path: Path, linear_file: Path) -> None:
    """A real SIGINT while an artifact is being built."""
    code = """
import signal, sys, time
signal.signal(signal.SIGINT, signal.default_int_handler)  # a background job inherits it ignored
from optc.cli.main import main
from optc.targets.cpu import Cpu
def build(self, model, out):
    (out / "half").write_bytes(b"half")
    print("building", file=sys.stderr, flush=True)
    time.sleep(60)
Cpu.build = build
main(["compile", sys.argv[1], "--target", "cpu", "-p", "", "-o", sys.argv[2]])
"""
    out = tmp_path / "out" / "a"
    process = subprocess.Popen(
        [sys.executable, "-c", code, str(linear_file), str(out)], stderr=subprocess.PIPE, text=True
    )
    assert process.stderr is not None
    assert process.stderr.readline() == "building\n"
    time.sleep(0.05)
    process.send_signal(signal.SIGINT)
    assert process.stderr.read().strip() == "optc: interrupted"
    assert process.wait() == 130
    assert list(out.parent.iterdir()) == []


def test_a_reader_that_goes_away() -> None:
    process = subprocess.Popen(
        [*COMMAND, "list", "passes"], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    )
    assert process.stdout is not None and process.stderr is not None
    process.stdout.close()
    assert process.stderr.read() == ""
    process.wait()


def test_starting_loads_no_heavy_package() -> None:
    code = """
import sys
from optc.cli.main import main
try:
    main(["--help"])
except SystemExit:
    pass
print([m for m in ("rich", "numpy", "onnx", "onnxruntime", "tvm", "onnx_graphsurgeon") if m in sys.modules])
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.splitlines()[-1] == "[]"


def test_output_is_plain_when_piped() -> None:
    environment = os.environ | {"TERM": "xterm-256color"}
    done = subprocess.run(
        [*COMMAND, "list", "zoo"], capture_output=True, text=True, check=True, env=environment
    )
    assert "\x1b" not in done.stdout and done.stderr == ""


def test_onnx_runtime_reports_nothing_and_leaves_nothing_behind(tmp_path: Path, linear_file: Path) -> None:
    environment = {k: v for k, v in os.environ.items() if k != "ORT_DISABLE_TELEMETRY"}
    environment["XDG_CACHE_HOME"] = str(tmp_path / "cache")
    subprocess.run(
        [*COMMAND, "verify", linear_file, linear_file], check=True, env=environment, capture_output=True
    )
    assert not (tmp_path / "cache").exists()
