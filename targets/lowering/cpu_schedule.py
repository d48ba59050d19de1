"""A default order of loops for processors: inline, run outer loops in parallel, sum outside inner loops.

Nothing here changes a result: sums keep their order.
"""

from __future__ import annotations

from typing import Any

from tvm import s_tir, tirx
from tvm.s_tir import dlight

_PARALLEL_WORK = 4096
"""Loop iterations under which threads cost more than they save."""

_LANES = (32, 16)
"""Iterations of an inner loop that become one vector: LLVM unrolls short loops rather than vectorize them."""


class CpuSchedule(dlight.ScheduleRule):  # type: ignore[misc]
    """Schedules any function that is made of plain loops; others are left as they are."""

    def apply(self, func: Any, target: Any, _tunable: bool) -> Any:
        """The scheduled function, or None where TVM cannot schedule it."""
        schedule = s_tir.Schedule(func)
        try:
            root = schedule.get_sblock("root")
            _inline(schedule, root)
            for block in schedule.get_child_blocks(root):
                _order_loops(schedule, block)
        except (RuntimeError, ValueError):  # TVM's errors, ScheduleError among them
            return None
        return schedule


def _inline(schedule: Any, root: Any) -> None:
    """Inline elementwise blocks into those that read them; where that cannot be, TVM says so."""
    for block in schedule.get_child_blocks(root):
        if "pad" in schedule.get(block).name_hint:
            continue
        for attempt in (schedule.compute_inline, schedule.reverse_compute_inline):
            try:
                attempt(block)
                break
            except s_tir.ScheduleError:
                continue


def _order_loops(schedule: Any, block: Any) -> None:
    loops = schedule.get_loops(block)
    kinds = [int(v.iter_type) for v in schedule.get(block).iter_vars]
    plain = len(loops) == len(kinds) and all(k in (_SPATIAL, _REDUCE) for k in kinds)
    if not loops or not plain:
        return
    spatial = [loop for loop, k in zip(loops, kinds, strict=True) if k == _SPATIAL]
    reduced = [loop for loop, k in zip(loops, kinds, strict=True) if k == _REDUCE]
    if not spatial or not _one_nest(schedule, loops):
        return
    vector = len(spatial) > 1 and (not reduced or _contiguous(schedule, block))
    work = _work(schedule, loops)
    lanes = _lanes(schedule, spatial[-1]) if vector and reduced else None
    if lanes:
        spatial[-1:] = schedule.split(spatial[-1], [None, lanes])
    outer = spatial[:-1] if vector else spatial
    if vector:
        schedule.reorder(*outer, *reduced, spatial[-1])
    if work >= _PARALLEL_WORK:
        schedule.parallel(schedule.fuse(*outer))
    if lanes:
        schedule.vectorize(spatial[-1])
    if reduced and vector:
        schedule.decompose_reduction(block, reduced[0])


_SPATIAL = int(tirx.IterVar.DataPar)
_REDUCE = int(tirx.IterVar.CommReduce)


def _lanes(schedule: Any, loop: Any) -> int | None:
    """How many iterations of a loop become one vector; None: that is left to LLVM."""
    extent = schedule.get(loop).extent
    known = isinstance(extent, tirx.IntImm)
    return next((n for n in _LANES if known and int(extent) % n == 0), None)


def _one_nest(schedule: Any, loops: Any) -> bool:
    """Whether each loop holds the next one and nothing else."""
    return all(isinstance(schedule.get(loop).body, tirx.For) for loop in loops[:-1])


def _contiguous(schedule: Any, block: Any) -> bool:
    """Whether the last spatial index is the last index of some operand, so that its loop can be vectors."""
    node = schedule.get(block)
    last = [v.var for v in node.iter_vars if int(v.iter_type) == _SPATIAL][-1]
    for region in node.reads:
        if region.region and any(
            last.same_as(v) for v in tirx.analysis.undefined_vars(region.region[-1].min)
        ):
            return True
    return False


def _work(schedule: Any, loops: Any) -> int:
    """Iterations of a nest; a free dimension counts as 1."""
    work = 1
    for loop in loops:
        extent = schedule.get(loop).extent
        work *= int(extent) if isinstance(extent, tirx.IntImm) else 1
    return work
