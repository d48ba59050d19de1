"""The order of TVM's passes for every target, on one screen. Imports TVM: load it late."""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Any

import tvm
from tvm import relax, tirx


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
            _order_shape_functions(),
        ]
    )


def build(module: Any, target: Any, schedule: Sequence[Any]) -> Any:
    """Compile a Relax module to a VM executable."""
    with target:
        module = relax_pipeline(schedule)(module)
    return relax.build(module, target, relax_pipeline=None)


def _order_shape_functions() -> Any:
    """Sort the stores of each shape function: TVM emits them in the order of a hash of addresses."""

    def visit(func: Any, _module: Any, _context: Any) -> Any:
        if not str(func.attrs.get("global_symbol", "") if func.attrs else "").startswith("shape_func"):
            return func
        body = func.body
        if isinstance(body, tirx.SeqStmt) and all(isinstance(s, tirx.BufferStore) for s in body):
            ordered = sorted(body, key=lambda s: int(s.indices[0]))
            return func.with_body(tirx.SeqStmt(ordered))
        return func

    return tirx.transform.prim_func_pass(visit, opt_level=0, name="OrderShapeFunctions")


_ADDRESS = re.compile(r'(?<=!")0x[0-9a-f]+(?=[".])')


def stable_ir(text: str) -> str:
    """LLVM IR with the addresses that TVM uses as names of alias classes numbered instead."""
    numbers: dict[str, str] = {}
    return _ADDRESS.sub(lambda m: numbers.setdefault(m[0], f"alias{len(numbers)}"), text)
