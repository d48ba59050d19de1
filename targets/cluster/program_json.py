"""A program of ranks as JSON and back."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict
from typing import Any

from optc.models.errors import InputError
from optc.targets.cluster.program import CALLER, Collective, Message, Part, Program, Rank


def program_json(program: Program) -> dict[str, Any]:
    """JSON types only: the fields of `Program`; collectives also say their `kind`, for whoever reads it."""
    return {
        "ranks": [asdict(rank) for rank in program.ranks],
        "messages": [asdict(message) for message in program.messages],
        "collectives": [asdict(c) | {"kind": c.kind} for c in program.collectives],
        "inputs": list(program.inputs),
        "outputs": dict(program.outputs),
    }


def read_program(data: Mapping[str, Any]) -> Program:
    """What `program_json` wrote (`InputError`: a field is missing, or the program cannot run)."""
    try:
        program = Program(
            tuple(_rank(rank) for rank in data["ranks"]),
            tuple(Message(m["tensor"], m["source"], m["to"], m["bytes"]) for m in data["messages"]),
            tuple(_collective(c) for c in data["collectives"]),
            tuple(data["inputs"]),
            dict(data["outputs"]),
        )
        _check(program)
    except KeyError as error:
        raise InputError(f"plan: its program lacks {error}; partition the model again") from error
    except (TypeError, ValueError, IndexError, ZeroDivisionError) as error:
        raise InputError(f"plan: its program is damaged ({error}); partition the model again") from error
    return program


def _rank(data: Mapping[str, Any]) -> Rank:
    parts = (
        Part(str(p["name"]), tuple(p["inputs"]), tuple(p["outputs"]), float(p["seconds"]))
        for p in data["parts"]
    )
    return Rank(data["stage"], data["tensor"], tuple(parts))


def _collective(data: Mapping[str, Any]) -> Collective:
    return Collective(
        data["source"],
        data["result"],
        tuple(data["ranks"]),
        tuple(data["to"]),
        data["bytes"],
        data["reduce"],
        data["axis"],
        _ranges(data["have"]),
        data["need_axis"],
        _ranges(data["need"]),
    )


def _ranges(data: list[list[int]]) -> tuple[tuple[int, int], ...]:
    return tuple((start, stop) for start, stop in data)


def _check(program: Program) -> None:
    """Ranks are numbered as they should be, and every part gets what it reads."""
    for number, rank in enumerate(program.ranks):
        if (rank.stage, rank.tensor) != divmod(number, program.tensor):
            raise ValueError(f"rank {number} is in the wrong place")
    count = len(program.ranks)
    named = [r for m in program.messages for r in (m.source, m.to)]
    named += [r for c in program.collectives for r in (*c.ranks, *c.to)]
    named += [r for r in program.outputs.values() if r != CALLER]
    odd = next((r for r in named if not 0 <= r < count), None)
    if odd is not None:
        raise ValueError(f"there is no rank {odd}")
    _ = program.order
    for name, at in program.outputs.items():
        if at == CALLER and name not in program.inputs:
            raise ValueError(f"nobody gives the output '{name}'")
        if at != CALLER and all(name not in part.outputs for part in program.ranks[at].parts):
            raise ValueError(f"rank {at} does not make the output '{name}'")
