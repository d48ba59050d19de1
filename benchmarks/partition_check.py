"""Recomputes pipeline plans from their JSON alone: `python benchmarks/partition_check.py PLAN.json …`.

Imports nothing of optc. A plan is what `optc.passes.partition.plan_json` writes, by itself or under the key
`plan` of the `plan.json` that `optc partition` writes; of that, the program, the predictions and the files
are checked, too. Exits with status 1 where a plan is no partition, a figure is another, or the bottleneck
lies below what simple sums prove; it says which.
"""

from __future__ import annotations

import json
import sys
from math import isclose
from pathlib import Path
from typing import Any


def faults(plan: dict[str, Any]) -> list[str]:
    """What is wrong with a plan, a line each."""
    found = _invalid(plan)
    if found:
        return found
    stages = len(plan["compute"])
    sent = _sent(plan)
    told = {(s["from"], s["to"]): s["bytes"] for s in plan["sent"]}
    if told != sent:
        a, b = min(pair for pair in told.keys() | sent.keys() if told.get(pair) != sent.get(pair))
        found.append(f"stage {a} sends {sent.get((a, b), 0)} bytes to stage {b}, not {told.get((a, b), 0)}")
    compute, receive = _compute(plan, stages), _receive(plan, sent, stages)
    memory = [_memory(plan, at, stages) for at in range(stages)]
    for at in range(stages):
        for name, want in (("compute", compute[at]), ("receive", receive[at]), ("memory", memory[at])):
            if not _equal(plan[name][at], want):
                found.append(f"stage {at}: {name} is {want}, not {plan[name][at]}")
        device = plan["cluster"]["devices"][at]
        if memory[at] > device["memory_bytes"]:
            found.append(
                f"stage {at} needs {memory[at]} bytes, '{device['name']}' has {device['memory_bytes']}"
            )
    bottleneck = max(c + r for c, r in zip(compute, receive, strict=True))
    if not _equal(plan["bottleneck"], bottleneck):
        found.append(f"the bottleneck is {bottleneck}, not {plan['bottleneck']}")
    found += _check_bound(plan, stages, bottleneck)
    return found


def _invalid(plan: dict[str, Any]) -> list[str]:
    """Why it is no partition into convex stages."""
    stage, stages, items = plan["stage"], len(plan["compute"]), plan["items"]
    if len(stage) != len(items):
        return [f"{len(items)} items, but stages of {len(stage)}"]
    if set(stage) != set(range(stages)):
        return [f"items are not spread over stages 0 to {stages - 1}, some on each"]
    if len({device["name"] for device in plan["cluster"]["devices"]}) != stages:
        return [f"{stages} stages need as many devices of different names"]
    found = []
    for value in plan["values"]:
        producer = value["producer"]
        for reader in value["readers"]:
            if producer >= reader:
                found.append(f"'{value['name']}' is read before it is made")
            elif producer >= 0 and stage[producer] > stage[reader]:
                found.append(f"'{value['name']}' goes back from stage {stage[producer]} to {stage[reader]}")
    return found


def _compute(plan: dict[str, Any], stages: int) -> list[float]:
    found = [0.0] * stages
    for place, at in enumerate(plan["stage"]):
        found[at] += _seconds(plan, at)[place]
    return found


def _seconds(plan: dict[str, Any], device: int) -> list[float]:
    times: list[list[float]] = plan["times"]
    return times[device] if times else [item["seconds"] for item in plan["items"]]


def _sent(plan: dict[str, Any]) -> dict[tuple[int, int], int]:
    """A value goes once from its producer's stage to each other stage that reads it."""
    stage = plan["stage"]
    found: dict[tuple[int, int], int] = {}
    for value in plan["values"]:
        if value["producer"] >= 0 and value["bytes"]:
            source = stage[value["producer"]]
            for to in {stage[reader] for reader in value["readers"]} - {source}:
                found[source, to] = found.get((source, to), 0) + value["bytes"]
    return found


def _receive(plan: dict[str, Any], sent: dict[tuple[int, int], int], stages: int) -> list[float]:
    """One message from each stage that sends, one after the other."""
    names = [device["name"] for device in plan["cluster"]["devices"]]
    links = {frozenset(link["between"]): link for link in plan["cluster"]["links"]}
    found = [0.0] * stages
    for (source, to), size in sent.items():
        link = links[frozenset((names[source], names[to]))]
        found[to] += link["latency_s"] + size / link["bytes_per_second"]
    return found


def _memory(plan: dict[str, Any], at: int, stages: int) -> int:
    """Weights, and for each of the `stages - at` micro-batches in flight the most that is ever alive."""
    stage = plan["stage"]
    weights = sum(w["bytes"] for w in plan["weights"] if any(stage[r] == at for r in w["readers"]))
    born: dict[int, int] = {}
    dead: dict[int, int] = {}
    for value in plan["values"]:
        here = [r for r in value["readers"] if stage[r] == at]
        made = value["producer"] >= 0 and stage[value["producer"]] == at
        if not made and not here:
            continue
        first = value["producer"] if made else min(here)
        last = max([first, *here])
        if made and (value["kept"] or len(here) < len(value["readers"])):
            last = len(stage)
        born[first] = born.get(first, 0) + value["bytes"]
        dead[last] = dead.get(last, 0) + value["bytes"]
    alive = most = 0
    for place, mine in enumerate(stage):
        if mine == at:
            alive += born.get(place, 0)
            most = max(most, alive)
            alive -= dead.get(place, 0)
    return int(weights + (stages - at) * most)


def _check_bound(plan: dict[str, Any], stages: int, bottleneck: float) -> list[str]:
    """The printed bound and gap against the bottleneck, and against what sums alone prove."""
    found = []
    bound, gap = plan["bound"], plan["gap"]
    if bound > bottleneck * (1 + 1e-9):
        found.append(f"the bound {bound} is above the bottleneck {bottleneck}")
    if bound and not isclose(gap, max(bottleneck / bound - 1, 0), rel_tol=1e-6, abs_tol=1e-9):
        found.append(f"the gap is {bottleneck / bound - 1}, not {gap}")
    least = [min(times) for times in zip(*(_seconds(plan, at) for at in range(stages)), strict=True)]
    for what, proved in (
        ("the mean of all stages", sum(least) / stages),
        ("the longest item", max(least)),
        ("the items that must share a stage", _pigeonhole(least, stages)),
    ):
        if bound < proved * (1 - 1e-9):
            found.append(f"the bound {bound} is below {what}, {proved}")
        if bottleneck < proved * (1 - 1e-9):
            found.append(f"the bottleneck {bottleneck} is below {what}, {proved}")
    return found


def _pigeonhole(seconds: list[float], stages: int) -> float:
    """Of the m × stages + 1 longest items some stage has m + 1: at least the shortest of them together."""
    longest = sorted(seconds, reverse=True)
    best = 0.0
    for m in range(1, (len(longest) - 1) // stages + 1):
        best = max(best, sum(longest[m * stages - m : m * stages + 1]))
    return best


def _equal(a: float, b: float) -> bool:
    return isclose(a, b, rel_tol=1e-9, abs_tol=1e-15)


def every_fault(path: Path) -> list[str]:
    """What is wrong with a plan in a file; of a whole `plan.json`, with the rest of it and its folder."""
    data = json.loads(path.read_text())
    if "program" not in data:
        return faults(data.get("plan", data))
    from partition_check_program import file_faults, program_faults

    return faults(data["plan"]) + program_faults(data) + file_faults(path.parent, data)


def main(paths: list[str]) -> int:
    """The exit status after checking every file."""
    wrong = 0
    for path in paths:
        for fault in every_fault(Path(path)):
            print(f"{path}: {fault}")
            wrong = 1
    return wrong


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
