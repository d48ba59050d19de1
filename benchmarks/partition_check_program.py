"""Checks the rest of a `plan.json`, with nothing of optc: what ranks do, what is predicted, the hashes."""

from __future__ import annotations

import hashlib
from math import isclose
from pathlib import Path
from typing import Any

Data = dict[str, Any]


def program_faults(data: Data) -> list[str]:
    """What is wrong with the program and the predictions of a whole `plan.json`, a line each."""
    ranks = data["program"]["ranks"]
    stages = len(data["plan"]["compute"])
    if len(ranks) % stages or any(
        (rank["stage"], rank["tensor"]) != divmod(number, len(ranks) // stages)
        for number, rank in enumerate(ranks)
    ):
        return [f"{len(ranks)} ranks are not {stages} stages of equal groups, in order"]
    found = _flow(data["program"]) + _sources(data["program"]) + _predicted(data)
    return found + (_like_the_plan(data) if len(ranks) == stages else [])


def _flow(program: Data) -> list[str]:
    """Messages go to later stages, collectives to the same or later ones, and share an axis whole."""
    stage = [rank["stage"] for rank in program["ranks"]]
    found = [
        f"message '{m['tensor']}' goes from stage {stage[m['source']]} to {stage[m['to']]}"
        for m in program["messages"]
        if stage[m["source"]] >= stage[m["to"]]
    ]
    for c in program["collectives"]:
        name = f"collective '{c['result']}'"
        if len({stage[r] for r in c["ranks"]}) != 1 or stage[c["ranks"][0]] > min(stage[r] for r in c["to"]):
            found.append(f"{name} goes back, or comes from several stages")
        ends = [end for pair in c["have"] for end in pair]
        if not c["reduce"] and (ends[0] != 0 or ends[1:-1:2] != ends[2::2]):
            found.append(f"{name}: its pieces {c['have']} do not follow each other")
        if c["need"] and len(c["need"]) != len(c["to"]):
            found.append(f"{name}: {len(c['need'])} pieces for {len(c['to'])} ranks")
    return found


def _sources(program: Data) -> list[str]:
    """Every tensor that a part reads comes from one place, and before it is read."""
    arrives: dict[tuple[int, str], int] = {}
    for m in program["messages"]:
        arrives[m["to"], m["tensor"]] = arrives.get((m["to"], m["tensor"]), 0) + 1
    for c in program["collectives"]:
        for rank in c["to"]:
            arrives[rank, c["result"]] = arrives.get((rank, c["result"]), 0) + 1
    found = []
    for number, rank in enumerate(program["ranks"]):
        made: set[str] = set()
        for part in rank["parts"]:
            for name in part["inputs"]:
                ways = arrives.get((number, name), 0) + (name in made) + (name in program["inputs"])
                if ways != 1:
                    found.append(f"rank {number}, part '{part['name']}': '{name}' comes from {ways} places")
            made.update(part["outputs"])
    return found


def _like_the_plan(data: Data) -> list[str]:
    """Of a pipeline: the ranks send and compute what the plan says."""
    sent: dict[tuple[int, int], int] = {}
    for m in data["program"]["messages"]:
        sent[m["source"], m["to"]] = sent.get((m["source"], m["to"]), 0) + m["bytes"]
    told = {(s["from"], s["to"]): s["bytes"] for s in data["plan"]["sent"]}
    found = [f"messages from stage to stage are {sent}, by the plan {told}"] if sent != told else []
    for at, rank in enumerate(data["program"]["ranks"]):
        seconds = sum(part["seconds"] for part in rank["parts"])
        if not isclose(seconds, data["plan"]["compute"][at], rel_tol=1e-9):
            found.append(f"rank {at} computes {seconds} s, by the plan {data['plan']['compute'][at]}")
    return found


def _predicted(data: Data) -> list[str]:
    """Latency, throughput, time and bubble of the schedule, from what the stages take."""
    plan, count = data["plan"], data["schedule"]["micro_batches"]
    times = [c + r for c, r in zip(plan["compute"], plan["receive"], strict=True)]
    seconds = sum(times) + (count - 1) * max(times)
    want = {
        "latency": sum(times),
        "throughput": data["data"] / max(times),
        "seconds": seconds,
        "bubble": 1 - count * sum(times) / (len(times) * seconds),
    }
    found = [
        f"{name} is {value}, not {data['predicted'][name]}"
        for name, value in want.items()
        if not isclose(data["predicted"][name], value, rel_tol=1e-9, abs_tol=1e-12)
    ]
    if not isclose(data["cost"]["seconds"], sum(times), rel_tol=1e-9):
        found.append(f"the cost is {data['cost']['seconds']} s, not {sum(times)}")
    return found


def file_faults(folder: Path, data: Data) -> list[str]:
    """Files of the plan in `folder` that are missing or others."""
    found = []
    for name, digest in data["files"].items():
        file = folder / name
        if not file.is_file():
            found.append(f"{name} is missing")
        elif hashlib.sha256(file.read_bytes()).hexdigest() != digest:
            found.append(f"{name} is another")
    return found
