"""What `optc partition` leaves: a folder with `plan.json`, the annotated model and an artifact a part."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from functools import cached_property
from pathlib import Path
from typing import Any, cast

from optc.models.errors import InputError
from optc.models.model import Model
from optc.passes.partition.cluster import Cluster
from optc.passes.partition.plan_json import read_cluster
from optc.targets.artifact import MANIFEST, MODEL, PLAN, Artifact, load, sha256
from optc.targets.cluster.program import Part, Program
from optc.targets.cluster.program_json import read_program
from optc.targets.cluster.schedule import KINDS, Schedule

SCHEMA = 1
"""Version of plan.json; loading refuses any other."""

_REQUIRED: dict[str, type] = {
    "files": dict,
    "target": str,
    "data": int,
    "cluster": dict,
    "program": dict,
    "schedule": dict,
    "plan": dict,
    "predicted": dict,
    "versions": dict,
}


class PlanFolder:
    """A partitioned model on disk.

    `data` holds JSON types: `schema`, `files` (path: sha256), `target`, `data` (replicas), `cluster`,
    `program` (see `program_json`), `schedule` (`kind`, `micro_batches`), `plan` (see
    `optc.passes.partition.plan_json`), `cost` (of one micro-batch), `predicted`, `versions`.
    """

    def __init__(self, folder: Path, data: dict[str, Any]) -> None:
        self.folder, self.data = folder, data

    @classmethod
    def create(cls, folder: Path, data: Mapping[str, Any]) -> PlanFolder:
        """Write `plan.json` into `folder`, which holds all else; adds schema and hashes."""
        files = {str(p.relative_to(folder)): sha256(p) for p in sorted(_hashed(folder))}
        plan = cls(folder, {"schema": SCHEMA, "files": files, **data})
        text = json.dumps(plan.data, indent=1, sort_keys=True, ensure_ascii=False, allow_nan=False)
        (folder / PLAN).write_text(text + "\n", encoding="utf-8")
        return plan

    @classmethod
    def load(cls, path: str | Path) -> PlanFolder:
        """Open a plan; `InputError` where it is none, of another schema, incomplete, damaged, or mixed up."""
        folder = Path(path)
        plan = cls(folder, _read(folder))
        for name, digest in plan.data["files"].items():
            file = folder / name
            if Path(name).is_absolute() or ".." in Path(name).parts:
                raise InputError(
                    f"{folder}: its plan names '{name}', which is no file of it; partition again"
                )
            if not file.is_file():
                raise InputError(f"{folder}: the file {name} is missing; partition the model again")
            if sha256(file) != digest:
                what = "another rank's or damaged" if file.name == MANIFEST else "damaged"
                raise InputError(f"{folder}: {name} is {what} (its hash differs); partition the model again")
        if plan.replicas < 1:
            raise InputError(f"{folder}: its plan has {plan.replicas} replicas; partition the model again")
        lost = next((p.name for p in plan.parts() if f"{p.name}/{MANIFEST}" not in plan.data["files"]), None)
        if lost is not None:
            raise InputError(f"{folder}: its plan names no files of {lost}; partition the model again")
        return plan

    @cached_property
    def program(self) -> Program:
        """What the ranks of a replica do."""
        return read_program(self.data["program"])

    @cached_property
    def cluster(self) -> Cluster:
        """The devices and links that it was made for."""
        return read_cluster(self.data["cluster"])

    @property
    def replicas(self) -> int:
        """How many times the program runs side by side."""
        return int(self.data["data"])

    @property
    def schedule(self) -> Schedule:
        """How micro-batches go through it."""
        kind, count = (self.data["schedule"].get(key) for key in ("kind", "micro_batches"))
        if kind not in KINDS or type(count) is not int or count < 1:
            raise InputError(f"{self.folder}: its schedule is damaged; partition the model again")
        return Schedule(kind, count)

    @cached_property
    def model(self) -> Model:
        """The whole model with its annotations."""
        return Model.load(self.folder / MODEL)

    def parts(self) -> Iterator[Part]:
        """All parts of all ranks."""
        for rank in self.program.ranks:
            yield from rank.parts

    def border_bytes(self) -> dict[str, int]:
        """Bytes a micro-batch of the model's inputs and outputs; free dimensions count as 1."""
        try:
            ends = [v for v in self.data["plan"]["values"] if v["producer"] < 0 or v["kept"]]
            return {v["name"].removesuffix(": whole"): int(v["bytes"]) for v in ends}
        except (KeyError, TypeError, ValueError, AttributeError, OverflowError) as error:
            raise InputError(f"{self.folder}: its values are damaged; partition the model again") from error

    def artifact(self, part: Part) -> Artifact:
        """The artifact of a part, its files checked (`InputError`)."""
        return load(self.folder / part.name)


def is_plan(path: str | Path) -> bool:
    """Whether a plan seems to lie at `path`."""
    return (Path(path) / PLAN).is_file()


def _hashed(folder: Path) -> Iterator[Path]:
    """The files whose hashes a plan holds; artifacts hold those of their own files."""
    yield from (p for p in folder.iterdir() if p.is_file() and p.name != PLAN)
    yield from folder.glob(f"*/{MANIFEST}")


def _read(folder: Path) -> dict[str, Any]:
    file = folder / PLAN
    try:
        data = json.loads(file.read_text(encoding="utf-8"))
    except OSError as error:
        raise InputError(
            f"{folder}: not a plan ({file} cannot be read: {error.strerror}); "
            "give a folder that optc partition wrote"
        ) from error
    except ValueError as error:
        raise InputError(f"{file}: damaged, not JSON; partition the model again") from error
    if not isinstance(data, dict) or data.get("schema") != SCHEMA:
        found = data.get("schema") if isinstance(data, dict) else None
        raise InputError(
            f"{folder}: a plan of schema {found}, this optc reads {SCHEMA}; partition the model again"
        )
    for name, kind in _REQUIRED.items():
        if not isinstance(data.get(name), kind):
            raise InputError(f"{file}: damaged, '{name}' is missing or no {kind.__name__}; partition again")
    return cast(dict[str, Any], data)
