from __future__ import annotations

from typing import Any

from optc.targets.cuda.schedule import Attempt


class Broken:
    def apply(self, func: Any, target: Any, tunable: bool) -> Any:
        raise ValueError("not these loops")


class Good:
    def apply(self, func: Any, target: Any, tunable: bool) -> Any:
        return [func, target, tunable]


def test_a_rule_that_fails_is_passed_over() -> None:
    assert Attempt(Broken()).apply(1, 2, False) is None
    assert Attempt(Good()).apply(1, 2, False) == [1, 2, False]
