"""The order of TVM's passes for every target, on one screen. Imports TVM: load it late."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import tvm
from tvm import relax

from optc.targets.lowering.stable import order_shape_functions


def relax_pipeline(schedule: Sequence[Any]) -> Any:
    """Relax passes from the imported module to what the VM runs; `schedule` puts loops in order."""
    t = relax.transform
    return tvm.transform.Sequential(
        [
            # To loops.
            t.DecomposeOpsForInference(),
            relax.backend.DispatchSampling(),
            relax.backend.DispatchSortScan(),
            t.LegalizeOps(),
            t.AnnotateTIROpPattern(),
            t.FoldConstant(),
            t.FuseOps(),
            t.FuseTIR(),
            t.DeadCodeElimination(),
            # Loops in order.
            *schedule,
            # To VM calls.
            t.RewriteDataflowReshape(),
            t.ToNonDataflow(),
            t.RemovePurityChecking(),
            t.CallTIRRewrite(),
            t.StaticPlanBlockMemory(),
            t.LowerAllocTensor(),
            t.KillAfterLastUse(),
            t.LowerRuntimeBuiltin(),
            t.ComputePrimValue(),
            t.VMShapeLower(),
            t.AttachGlobalSymbol(),
            order_shape_functions(),
        ]
    )


def build(module: Any, target: Any, schedule: Sequence[Any]) -> Any:
    """Compile a Relax module to a VM executable."""
    with target:
        module = relax_pipeline(schedule)(module)
    return relax.build(module, target, relax_pipeline=None)
