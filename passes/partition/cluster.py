"""A described cluster: its devices, and the links between them."""

from __future__ import annotations

import tomllib
from collections.abc import Mapping
from dataclasses import dataclass
from math import isfinite
from pathlib import Path
from typing import Any

from optc.models.errors import InputError

_PRESETS = Path(__file__).parent / "clusters"

MOST = 1024
"""Devices in one file: links are held for every pair of them."""

_LEAST, _LARGEST = 1e-30, 1e30
"""Of any figure in a file that is not 0: times stay finite, whatever a model has."""


@dataclass(frozen=True)
class Device:
    """A device by its peak multiply-accumulates a second, bytes a second from its memory, and bytes of it."""

    name: str
    macs_per_second: float
    bytes_per_second: float
    memory_bytes: int


@dataclass(frozen=True)
class Link:
    """One direction of a connection: a message of n bytes takes latency_s + n / bytes_per_second seconds."""

    latency_s: float
    bytes_per_second: float

    def seconds(self, size: float) -> float:
        """What a message of `size` bytes takes; nothing is sent, and nothing waited for, where it is 0."""
        return self.latency_s + size / self.bytes_per_second if size else 0.0


@dataclass(frozen=True)
class Cluster:
    """Devices in order, and the links between pairs of them, each direction the same.

    `links` has each pair once, by the devices' names in order. `caller`: what requests and answers go over
    between the devices and whoever uses them; None: they cost nothing.
    """

    name: str
    devices: tuple[Device, ...]
    links: Mapping[tuple[str, str], Link]
    caller: Link | None = None

    def link(self, a: str, b: str) -> Link:
        """The link between two devices; `InputError` where there is none."""
        found = self.links.get((a, b)) or self.links.get((b, a))
        if found is None:
            raise InputError(f"cluster '{self.name}': no link between '{a}' and '{b}'; add a [[link]]")
        return found


def cluster_names() -> tuple[str, ...]:
    """The clusters that come with optc."""
    return tuple(sorted(path.stem for path in _PRESETS.glob("*.toml")))


def load_cluster(what: str | Path) -> Cluster:
    """The cluster that a preset's name or a `.toml` file describes; `InputError` where it is not sound.

    A file has a `[[device]]` table for each device (`name`, `macs_per_second`, `bytes_per_second`,
    `memory_bytes`; with `count = n` it stands for n devices NAME0, NAME1, …) and a `[[link]]` table for each
    link (`between`: two names, `latency_s`, `bytes_per_second`). A counted name stands for all its devices:
    `between = ["gpu", "gpu"]` links every pair of them. A `[caller]` table (`latency_s`, `bytes_per_second`)
    says what requests come and answers go over.
    """
    path = Path(what)
    if path.suffix != ".toml":
        path = _PRESETS / f"{what}.toml"
        if str(what) not in cluster_names():
            raise InputError(
                f"cluster '{what}': there is no such preset; there are {', '.join(cluster_names())}; "
                "or give a .toml file"
            )
    try:
        data = tomllib.loads(path.read_text())
    except OSError as error:
        raise InputError(f"{path}: cannot be read ({error.strerror})") from error
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise InputError(f"{path}: not TOML ({error})") from error
    return _cluster(data, path)


def _cluster(data: dict[str, Any], path: Path) -> Cluster:
    _refuse_unknown(data, {"caller", "device", "link"}, str(path))
    groups: dict[str, list[Device]] = {}
    for table in _tables(data, "device", path):
        name = table.get("name")
        if not isinstance(name, str) or not name:
            raise InputError(f"{path}: a [[device]] has no name")
        group = _devices(name, table, f"{path}: device '{name}'")
        if name in groups:
            raise InputError(f"{path}: device '{name}' is described twice")
        groups[name] = group
        if sum(map(len, groups.values())) > MOST:
            raise InputError(f"{path}: describes more than {MOST} devices; describe those of a replica")
    devices = tuple(device for group in groups.values() for device in group)
    names = {device.name: place for place, device in enumerate(devices)}
    twice = next((d.name for at, d in enumerate(devices) if names[d.name] != at), None)
    if twice is not None:
        raise InputError(f"{path}: device '{twice}' is described twice")
    if not devices:
        raise InputError(f"{path}: describes no [[device]]")
    members = {n: [n] for n in names} | {n: [d.name for d in group] for n, group in groups.items()}
    links: dict[tuple[str, str], Link] = {}
    for table in _tables(data, "link", path):
        _add_link(links, table, members, names, path)
    return Cluster(path.stem, devices, links, _caller(data, path))


def _caller(data: dict[str, Any], path: Path) -> Link | None:
    table = data.get("caller")
    if table is None:
        return None
    if not isinstance(table, dict):
        raise InputError(f"{path}: 'caller' must be written as a [caller] table")
    where = f"{path}: caller"
    _refuse_unknown(table, {"latency_s", "bytes_per_second"}, where)
    return Link(_figure(table, "latency_s", where, least=0), _figure(table, "bytes_per_second", where))


def _devices(name: str, table: dict[str, Any], where: str) -> list[Device]:
    _refuse_unknown(table, {"name", "count", "macs_per_second", "bytes_per_second", "memory_bytes"}, where)
    figures = (
        _figure(table, "macs_per_second", where),
        _figure(table, "bytes_per_second", where),
        int(_figure(table, "memory_bytes", where)),
    )
    if "count" not in table:
        return [Device(name, *figures)]
    count = table["count"]
    if type(count) is not int or not 1 <= count <= MOST:
        raise InputError(f"{where}: count must be a whole number from 1 to {MOST}, not {count!r}")
    return [Device(f"{name}{i}", *figures) for i in range(count)]


def _add_link(
    links: dict[tuple[str, str], Link],
    table: dict[str, Any],
    members: dict[str, list[str]],
    names: Mapping[str, int],
    path: Path,
) -> None:
    between = table.get("between")
    if not isinstance(between, list) or len(between) != 2 or not all(isinstance(n, str) for n in between):
        raise InputError(f"{path}: a [[link]] needs between = [name, name], not {between!r}")
    where = f"{path}: link {between[0]}–{between[1]}"
    lost = next((n for n in between if n not in members), None)
    if lost is not None:
        raise InputError(f"{where}: there is no device '{lost}'; there are {', '.join(members)}")
    _refuse_unknown(table, {"between", "latency_s", "bytes_per_second"}, where)
    link = Link(_figure(table, "latency_s", where, least=0), _figure(table, "bytes_per_second", where))
    ends = {(a, b) for a in members[between[0]] for b in members[between[1]] if a != b}
    if not ends and between[0] in names:  # one counted device has no links, but may have more one day
        raise InputError(f"{where}: links a device to itself")
    for a, b in sorted({tuple(sorted(pair, key=names.__getitem__)) for pair in ends}):
        if (a, b) in links:
            raise InputError(f"{where}: '{a}' and '{b}' are linked twice")
        links[a, b] = link


def _tables(data: dict[str, Any], key: str, path: Path) -> list[dict[str, Any]]:
    tables = data.get(key, [])
    if not isinstance(tables, list) or not all(isinstance(t, dict) for t in tables):
        raise InputError(f"{path}: '{key}' must be written as [[{key}]] tables")
    return tables


def _refuse_unknown(table: dict[str, Any], known: set[str], where: str) -> None:
    odd = next((key for key in table if key not in known), None)
    if odd is not None:
        raise InputError(f"{where}: unknown key '{odd}'; known are {', '.join(sorted(known))}")


def _figure(table: dict[str, Any], key: str, where: str, least: float | None = None) -> float:
    """A number above 0, or of at least `least`."""
    if key not in table:
        raise InputError(f"{where}: {key} is missing")
    value = table[key]
    if type(value) not in (int, float) or not isfinite(value):
        raise InputError(f"{where}: {key} must be a number, not {value!r}")
    if value < 0 or (value == 0 and least is None):
        raise InputError(f"{where}: {key} must be {'at least' if least == 0 else 'above'} 0, not {value}")
    if value and not _LEAST <= value <= _LARGEST:
        raise InputError(f"{where}: {key} must be between {_LEAST} and {_LARGEST}, not {value}")
    return float(value)
