"""How loops become GPU kernels: TVM's dlight rules. Imports TVM: load it late."""

from __future__ import annotations

from typing import Any


def schedule() -> list[Any]:
    """Passes that bind every loop nest to threads, the most specific rule first; `Fallback` takes the rest."""
    from tvm.s_tir import dlight

    gpu = dlight.gpu
    rules = (gpu.Matmul(), gpu.GEMV(), gpu.Reduction(), gpu.GeneralReduction(), gpu.Fallback())
    return [dlight.ApplyDefaultSchedule(*rules)]
