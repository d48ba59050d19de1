"""How loops become GPU kernels: TVM's dlight rules. Imports TVM: load it late."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True)
class Attempt:
    """A dlight rule that is passed over where it fails: dlight's rules raise on some loops they accept.

    `Reduction` and `GeneralReduction` do so on a depthwise convolution fused with its clip.
    """

    rule: Any

    def apply(self, func: Any, target: Any, tunable: bool) -> Any:
        """The schedules that the rule gives, None where it does not match or fails."""
        try:
            return self.rule.apply(func, target, tunable)
        except Exception:  # TVM's schedule errors have no common class
            return None


def schedule() -> list[Any]:
    """Passes that bind every loop nest to threads: the most specific rule first, `Fallback` last."""
    from tvm.s_tir import dlight

    gpu = dlight.gpu
    rules = (gpu.Matmul(), gpu.GEMV(), gpu.Reduction(), gpu.GeneralReduction())
    return [dlight.ApplyDefaultSchedule(*(Attempt(r) for r in rules), gpu.Fallback())]
