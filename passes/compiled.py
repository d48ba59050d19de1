"""Functions compiled by numba."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from numba import njit


def compiled(function: Callable[..., Any]) -> Callable[..., Any]:
    """The function, compiled when it is first called; kept on disk where numba finds a place to write to."""
    try:
        return njit(function, cache=True)  # type: ignore[no-any-return]
    except RuntimeError:  # neither beside the source nor in the user's cache
        return njit(function)  # type: ignore[no-any-return]
