"""Progress: nothing where nobody looks, and never a display left behind."""

from __future__ import annotations

import sys
import time

import onnx
import pytest

from optc.cli import progress as module
from optc.cli.progress import PassProgress, TerminalProgress, terminal_progress
from optc.models.model import Model
from optc.passes.bind_shapes import BindShapes
from optc.passes.pipeline import PassError, Pipeline

TEXT = '<ir_version: 8, opset_import: ["": 17]> g (float[N] x) => (float[N] y) { y = Relu(x) }'


def test_none_where_stderr_is_no_terminal_or_quiet_is_wanted(monkeypatch: pytest.MonkeyPatch) -> None:
    with terminal_progress(quiet=False) as progress:
        assert progress is None
    monkeypatch.setattr(sys.stderr, "isatty", lambda: True, raising=False)
    with terminal_progress(quiet=True) as progress:
        assert progress is None
    with terminal_progress(quiet=False) as progress:
        assert progress is not None


def test_short_work_shows_nothing(capsys: pytest.CaptureFixture[str]) -> None:
    assert list(TerminalProgress().track([1, 2, 3], "short", 3)) == [1, 2, 3]
    assert capsys.readouterr().err == ""


def test_long_work_is_shown_also_nested(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "_DELAY", 0.0)
    progress = TerminalProgress()
    for _ in progress.track(range(2), "outer"):
        for _ in progress.track(range(2), "inner", 2):
            time.sleep(0.01)
    assert progress._open == 0 and not progress._display.live.is_started
    assert list(progress.track("ab", "again")) == ["a", "b"]


def test_a_pass_that_fails_leaves_no_display(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys.stderr, "isatty", lambda: True, raising=False)
    monkeypatch.setattr(module, "_DELAY", 0.0)
    model = Model(onnx.parser.parse_model(TEXT))
    passes = (BindShapes(("x=3",)), BindShapes(("z=3",)))
    with pytest.raises(PassError), terminal_progress(quiet=False) as progress:
        assert progress is not None
        Pipeline(passes).run(model, watchers=[PassProgress(progress)])
    assert not progress._display.live.is_started
