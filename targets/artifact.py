"""What `compile` leaves: a folder with a manifest, the model that the passes produced, the target's files."""

from __future__ import annotations

import dataclasses
import hashlib
import json
import os
import shutil
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from functools import cached_property
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

from numpy.typing import NDArray

from optc.models.errors import InputError
from optc.models.model import Model
from optc.passes.text import from_text, to_text
from optc.targets.base import Placement, Runner, Target
from optc.targets.feeds import inputs_of, outputs_of
from optc.targets.registry import target_class

SCHEMA = 1
"""Version of the manifest; loading refuses any other."""

MANIFEST = "manifest.json"
MODEL = "model.onnx"
PLAN = "plan.json"
"""In place of the manifest in the folder of a partitioned model, which holds an artifact for each part."""

_PACKAGES = ("optc", "onnx", "onnxruntime", "onnx-graphsurgeon", "apache-tvm", "apache-tvm-ffi", "numpy")
_REQUIRED: dict[str, type] = {
    "schema": int,
    "files": dict,
    "target": str,
    "program": dict,
    "placement": list,
    "inputs": list,
    "outputs": list,
    "versions": dict,
}
_ANNOTATIONS = ("pipeline", "cost", "verification", "scores", "seed", "steps")


class Artifact:
    """A compiled model in a folder.

    `manifest` holds JSON types: `schema`, `files` (name: sha256), `target` (its text, such as
    `cuda{arch=[sm_80]}`), `program` (what the target needs to run it), `inputs` and `outputs` (name, dtype,
    shape), `placement`, `versions`, and what
    the compiler annotated: `pipeline` (text), `cost`, `verification`, `seed`, `steps`.
    """

    def __init__(self, folder: Path, manifest: dict[str, Any]) -> None:
        self.folder = folder
        self.manifest = manifest

    @classmethod
    def create(
        cls,
        folder: Path,
        target: Target,
        model: Model,
        program: Mapping[str, Any],
        placement: Sequence[Placement],
    ) -> Artifact:
        """Save `model` into `folder`, which already holds the target's files, and write the manifest."""
        model.save(folder / MODEL)
        graph = model.to_proto(embed=False).graph
        artifact = cls(folder, {})
        artifact.manifest = {
            "schema": SCHEMA,
            "target": to_text([target]),  # type: ignore[list-item]
            "program": dict(program),
            "placement": [dataclasses.asdict(p) for p in placement],
            "inputs": inputs_of(graph),
            "outputs": outputs_of(graph),
            "versions": package_versions(),
            "files": artifact._hashes(),
        }
        artifact._write()
        return artifact

    @property
    def target(self) -> Target:
        """The target that the artifact was built for; `InputError` where this optc has none such."""
        found = from_text(self.manifest["target"], target_class)  # type: ignore[arg-type]
        if len(found) != 1:
            raise InputError(f"{self.folder}: its manifest names no target; compile the model again")
        return found[0]  # type: ignore[return-value]

    @cached_property
    def model(self) -> Model:
        """The model that the passes produced, `model.onnx`."""
        return Model.load(self.folder / MODEL)

    @property
    def placement(self) -> tuple[Placement, ...]:
        """Where each node runs."""
        return tuple(Placement(**entry) for entry in self.manifest["placement"])

    def annotate(self, **fields: Any) -> None:
        """Set fields of the manifest: `pipeline`, `cost`, `verification`, `scores`, `seed`, `steps`."""
        for name in fields:
            if name not in _ANNOTATIONS:
                raise ValueError(f"a manifest has no field '{name}' to annotate")
        self.manifest |= fields
        self._write()

    def include(self) -> None:
        """Take files that were added to the folder into the manifest."""
        self.manifest["files"] = self._hashes()
        self._write()

    def runner(self) -> Runner:
        """The artifact loaded on its device; `MissingError` where this machine cannot run it."""
        return self.target.runner(self)

    def run(self, feeds: Mapping[str, NDArray[Any]]) -> dict[str, NDArray[Any]]:
        """Run once: outputs by name for inputs by name (loads it anew each time; see `runner`)."""
        return self.runner().run(feeds)

    def _hashes(self) -> dict[str, str]:
        names = sorted(p.name for p in self.folder.iterdir() if p.is_file() and p.name != MANIFEST)
        return {name: sha256(self.folder / name) for name in names}

    def _write(self) -> None:
        text = json.dumps(self.manifest, indent=1, sort_keys=True, ensure_ascii=False)
        (self.folder / MANIFEST).write_text(text + "\n", encoding="utf-8")


def load(path: str | Path) -> Artifact:
    """Open an artifact: every file's hash is checked, nothing is unpickled or run.

    Raises `InputError` where the folder is no artifact, of an unknown schema, incomplete or damaged.
    """
    folder = Path(path)
    manifest = _read_manifest(folder)
    for name, digest in manifest["files"].items():
        file = folder / name
        if Path(name).name != name or name in ("", ".", ".."):
            raise InputError(f"{folder}: its manifest names '{name}', which is no file of it; compile again")
        if not file.is_file():
            raise InputError(f"{folder}: the file {name} is missing; compile again")
        if sha256(file) != digest:
            raise InputError(f"{folder}: the file {name} is damaged (its hash differs); compile again")
    artifact = Artifact(folder, manifest)
    _ = artifact.target
    return artifact


def _read_manifest(folder: Path) -> dict[str, Any]:
    file = folder / MANIFEST
    if (folder / PLAN).exists() and not file.exists():
        raise InputError(
            f"{folder}: a plan of optc partition, not an artifact; optc run and optc simulate take it, "
            "all else one of its ranks' folders"
        )
    try:
        manifest = json.loads(file.read_text(encoding="utf-8"))
    except OSError as error:
        raise InputError(
            f"{folder}: not an artifact ({file} cannot be read: {error.strerror}); "
            "give a folder that optc compile wrote"
        ) from error
    except ValueError as error:
        raise InputError(f"{file}: damaged, not JSON; compile the model again") from error
    if not isinstance(manifest, dict) or "schema" not in manifest:
        raise InputError(f"{file}: not the manifest of an artifact; give a folder that optc compile wrote")
    if manifest["schema"] != SCHEMA:
        raise InputError(
            f"{folder}: an artifact of schema {manifest['schema']}, this optc reads {SCHEMA}; compile again"
        )
    for name, kind in _REQUIRED.items():
        if not isinstance(manifest.get(name), kind):
            raise InputError(f"{file}: damaged, '{name}' is missing or no {kind.__name__}; compile again")
    if MODEL not in manifest["files"]:
        raise InputError(f"{file}: damaged, it does not name {MODEL}; compile again")
    return manifest


def sha256(path: Path) -> str:
    """The SHA-256 of a file's bytes, in hexadecimal; `InputError` where it cannot be read."""
    try:
        with path.open("rb") as stream:
            return hashlib.file_digest(stream, "sha256").hexdigest()
    except OSError as error:
        raise InputError(f"{path}: cannot be read ({error.strerror})") from error


def package_versions() -> dict[str, str]:
    """The versions of the packages that decide what an artifact holds; those not installed are left out."""
    found: dict[str, str] = {}
    for name in _PACKAGES:
        try:
            found[name] = version(name)
        except PackageNotFoundError:
            continue
    return found


@contextmanager
def staged(out: str | Path) -> Iterator[Path]:
    """An empty folder beside `out` that becomes `out` if all goes well, and vanishes if not.

    An artifact (or a plan) that stands at `out` is replaced; anything else there is an `InputError`, raised
    before the work starts. `InputError` also where the disk is full or the place cannot be written.
    """
    out = Path(os.path.abspath(out))
    check_replaceable(out)
    try:
        out.parent.mkdir(parents=True, exist_ok=True)
        folder = Path(tempfile.mkdtemp(prefix=f".{out.name}.", dir=out.parent))
    except OSError as error:
        raise InputError(f"{out}: cannot be written ({error.strerror}); give another output path") from error
    new = folder / "new"
    try:
        new.mkdir()
        yield new
        _swap(new, out, folder / "old")
    except InputError as error:
        raise InputError(str(error).replace(str(new), str(out)), error.node) from error
    except OSError as error:
        if error.filename is not None and not str(error.filename).startswith(str(folder)):
            raise
        raise InputError(
            f"{out}: cannot be written ({error.strerror}); free space or choose another path"
        ) from error
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def check_replaceable(out: Path) -> None:
    """`InputError` where something stands at `out` that is no artifact and no empty folder, or in a plan."""
    plan = next((folder for folder in out.absolute().parents if _has_schema(folder / PLAN)), None)
    if plan is not None:
        raise InputError(f"{out}: lies in the plan {plan}, which it would damage; give another output path")
    if not os.path.lexists(out):
        return
    if out.is_dir() and not out.is_symlink() and (_is_artifact(out) or not any(out.iterdir())):
        return
    raise InputError(f"{out}: exists and is not an artifact; it is not overwritten, give another output path")


def _is_artifact(folder: Path) -> bool:
    return any(_has_schema(folder / name) for name in (MANIFEST, PLAN))


def _has_schema(file: Path) -> bool:
    try:
        manifest = json.loads(file.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return False
    return isinstance(manifest, dict) and "schema" in manifest


def _swap(new: Path, out: Path, old: Path) -> None:
    if out.exists():
        os.rename(out, old)
    try:
        os.rename(new, out)
    except OSError:
        if old.exists():
            os.rename(old, out)
        raise
