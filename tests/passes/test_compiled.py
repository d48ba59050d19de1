from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from optc.passes import compiled as module


def test_without_a_place_for_what_was_compiled(monkeypatch: pytest.MonkeyPatch) -> None:
    """As numba says it where neither the package's folder nor the user's can be written to."""
    compile_now = module.njit

    def njit(function: Callable[..., Any], **options: bool) -> Any:
        if options:
            raise RuntimeError("cannot cache function: no locator available")
        return compile_now(function)

    monkeypatch.setattr(module, "njit", njit)
    assert module.compiled(lambda x: x + 1)(1) == 2
