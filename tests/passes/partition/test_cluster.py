from pathlib import Path

import pytest

from optc.models.errors import InputError
from optc.passes.partition.cluster import Link, cluster_names, load_cluster

DEVICE = """
[[device]]
name = "a"
count = 2
macs_per_second = 1e9
bytes_per_second = 2e9
memory_bytes = 3000
[[device]]
name = "b"
macs_per_second = 1e9
bytes_per_second = 2e9
memory_bytes = 3000
"""
LINK = """
[[link]]
between = ["a", "b"]
latency_s = 0
bytes_per_second = 10
"""


def write(tmp_path: Path, text: str) -> Path:
    path = tmp_path / "mine.toml"
    path.write_text(text)
    return path


@pytest.mark.parametrize(
    ("name", "devices"),
    [("cpu-2-sockets", 2), ("h200-8", 8), ("h200-2x8", 16), ("vta-4-boards", 4), ("cpu-cores", 64)],
)
def test_a_preset_links_every_pair(name: str, devices: int) -> None:
    cluster = load_cluster(name)
    assert len(cluster.devices) == devices and name in cluster_names() and len(cluster_names()) == 5
    names = [d.name for d in cluster.devices]
    assert all(cluster.link(a, b).bytes_per_second > 0 for a in names for b in names if a != b)


def test_nodes_are_joined_by_the_network() -> None:
    cluster = load_cluster("h200-2x8")
    assert cluster.link("a0", "a7").bytes_per_second == 450e9
    assert cluster.link("b1", "a7").bytes_per_second == 50e9


def test_a_file_of_ones_own(tmp_path: Path) -> None:
    cluster = load_cluster(write(tmp_path, DEVICE + LINK))
    assert [d.name for d in cluster.devices] == ["a0", "a1", "b"]
    assert cluster.link("b", "a1") == cluster.link("a0", "b") == Link(0, 10)
    assert cluster.devices[2].memory_bytes == 3000
    with pytest.raises(InputError, match=r"no link between 'a0' and 'a1'"):
        cluster.link("a0", "a1")


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        ("memory_bytes = 3000", "", "device 'a': memory_bytes is missing"),
        ("1e9", "-1e9", "macs_per_second must be above 0, not -1"),
        ("2e9", "0", "bytes_per_second must be above 0"),
        ("2e9", "nan", "must be a number"),
        ("2e9", "1e-320", "bytes_per_second must be between 1e-30 and 1e+30, not 1e-320"),
        ("latency_s = 0", "latency_s = 1e308", "latency_s must be between"),
        ("2e9", '"fast"', "must be a number, not 'fast'"),
        ("1e9", "true", "must be a number, not True"),
        ("latency_s = 0", "latency_s = -1", "latency_s must be at least 0, not -1"),
        ("latency_s = 0", "", "link a–b: latency_s is missing"),
        ('"a", "b"', '"a", "c"', "link a–c: there is no device 'c'; there are a0, a1, b, a"),
        ('"a", "b"', '"b", "b"', "links a device to itself"),
        ('"a", "b"', '"a"', "needs between"),
        ("count = 2", "count = 0", "count must be a whole number from 1 to 1024, not 0"),
        ("count = 2", "count = 99999999999999", "count must be a whole number from 1 to 1024"),
        ("count = 2", "count = 1024", "describes more than 1024 devices"),
        ("count = 2", "cuont = 2", "unknown key 'cuont'"),
        ('name = "b"', 'name = "a1"', "'a1' is described twice"),
        ('name = "b"', 'name = "a"', "'a' is described twice"),
        ('name = "b"', "", "has no name"),
        ("[[link]]", "[link]", "must be written as"),
        ("[[link]]", "[[link", "not TOML"),
        (LINK, LINK + LINK, "linked twice"),
        (DEVICE + LINK, "", "describes no"),
    ],
)
def test_bad_files_are_one_clear_line(tmp_path: Path, old: str, new: str, message: str) -> None:
    text = DEVICE + LINK
    assert old in text
    with pytest.raises(InputError) as caught:
        load_cluster(write(tmp_path, text.replace(old, new, 1)))
    text = str(caught.value)
    assert message in text and "mine.toml" in text and "\n" not in text


def test_unknown_presets_and_files() -> None:
    with pytest.raises(
        InputError, match="'h300': there is no such preset; there are cpu-2-sockets, cpu-cores, h200"
    ):
        load_cluster("h300")
    with pytest.raises(InputError, match="cannot be read"):
        load_cluster("none/such.toml")
