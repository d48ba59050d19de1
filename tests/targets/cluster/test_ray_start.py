"""Starting Ray, joining it, and what is left of it, each in a process of its own."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest
from ray_programs import chain

from optc.models.errors import InputError, MissingError
from optc.targets.cluster.ray_engine import RayEngine
from optc.targets.cluster.ray_start import enter

SHARED = """if True:
    import json, os, pickle, sys, tempfile
    from pathlib import Path
    import numpy as np
    from optc.targets.cluster.ray_engine import RayEngine

    def offspring(of):
        found = {}
        for status in Path("/proc").glob("[0-9]*/stat"):
            pid, _, rest = status.read_text().partition(" (")
            name, _, fields = rest.rpartition(") ")
            found[int(pid)] = (name, int(fields.split()[1]))
        mine, grown = {of}, True
        while grown:
            more = {pid for pid, (_, parent) in found.items() if parent in mine} - mine
            mine, grown = mine | more, bool(more)
        return {pid: found[pid][0] for pid in mine - {of}}

    folder, program, *address = pickle.loads(bytes.fromhex(sys.argv[1]))
"""

ALONE = (
    SHARED
    + """
    with RayEngine(folder, program) as engine:
        answer = next(engine.run([{"x": np.ones((1, 2), np.float32)}]))
        during = offspring(os.getpid())
    left = offspring(os.getpid())
    files = [f.name for f in Path("/dev/shm").iterdir() if any(f"{pid}-" in f.name for pid in during)]
    folders = [str(f) for f in Path(tempfile.gettempdir()).iterdir()]
    print(json.dumps([answer["y"].tolist(), len(during), left, files, folders]))
"""
)

INTERRUPTED = """if True:
    import ray
    from optc.targets.cluster.ray_start import enter

    def init(**options):
        raise KeyboardInterrupt

    ray.init = init
    enter(None, 1, 10**8)
"""

TERMINATED = """if True:
    import time
    from optc.targets.cluster.ray_start import enter
    leave = enter(None, 2, 10**8)
    try:
        print("on", flush=True)
        time.sleep(60)
    finally:
        leave()
        print("left", flush=True)
"""

HEAD = """if True:
    import ray, sys
    from optc.targets.cluster.ray_start import enter
    leave = enter(None, 2, 10**8)
    print("at", ray.get_runtime_context().gcs_address, flush=True)
    sys.stdin.readline()
    print("free", ray.available_resources()["CPU"], flush=True)
    sys.stdin.readline()
    leave()
"""

JOIN = (
    SHARED
    + """
    import socket
    from optc.targets.cluster import ray_start
    with RayEngine(folder, program, address=address[0]) as engine:
        answer = next(engine.run([{"x": np.ones((1, 2), np.float32)}]))
    errors = []
    deaf = socket.create_server(("127.0.0.1", 0))
    ray_start.PATIENCE = 3
    for replicas, place in ((2, address[0]), (1, "127.0.0.1:%d" % deaf.getsockname()[1])):
        try:
            RayEngine(folder, program, replicas=replicas, address=place)
        except Exception as error:
            errors.append(f"{type(error).__name__}: {error}")
    print(json.dumps([answer["y"].tolist(), errors]), flush=True)
    os._exit(0)
"""
)


def run(script: str, *given: object) -> list[object]:
    import pickle

    env = os.environ | {"RAY_AUTH_MODE": "disabled"}
    command = [sys.executable, "-c", script, pickle.dumps(given).hex()]
    result = subprocess.run(command, env=env, capture_output=True, text=True, check=True, timeout=120)
    assert result.stderr == ""
    found: list[object] = json.loads(result.stdout)
    return found


def test_nothing_is_left_behind(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (scratch := Path("/tmp") / f"optc-{os.getpid()}").mkdir()
    monkeypatch.setenv("TMPDIR", str(scratch))
    answer, during, left, files, folders = run(ALONE, tmp_path, chain(tmp_path))
    assert answer == [[-1.0, -1.0]] and during >= 4  # type: ignore[operator]
    assert (left, files, folders) == ({}, [], [])
    scratch.rmdir()


def test_interrupted_while_it_starts(tmp_path: Path) -> None:
    env = os.environ | {"TMPDIR": str(tmp_path)}
    result = subprocess.run([sys.executable, "-c", INTERRUPTED], env=env, capture_output=True, timeout=120)
    assert b"KeyboardInterrupt" in result.stderr and not list(tmp_path.iterdir())


@pytest.mark.slow
def test_a_cluster_is_joined_and_goes_on(tmp_path: Path) -> None:
    env = os.environ | {"RAY_AUTH_MODE": "disabled"}
    head = subprocess.Popen(
        [sys.executable, "-c", HEAD],
        env=env, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True,
    )  # fmt: skip
    assert head.stdin is not None and head.stdout is not None
    address = head.stdout.readline().split()[1]
    answer, errors = run(JOIN, tmp_path, chain(tmp_path), address)
    assert answer == [[-1.0, -1.0]]
    assert errors[0] == "MissingError: the program needs 4 CPUs, Ray has 2 here"  # type: ignore[index]
    assert "answers: is it Ray" in errors[1]  # type: ignore[index]
    head.stdin.write("\n")
    head.stdin.flush()
    assert head.stdout.readline() == "free 2.0\n"
    head.communicate("\n", timeout=60)


@pytest.mark.parametrize(
    ("address", "text"),
    [
        ("127.0.0.1:1", "no cluster at 127.0.0.1:1: Connection refused; is its head running"),
        ("ray://somewhere:10001", "address 'ray://somewhere:10001': give HOST:PORT"),
        ("somewhere", "address 'somewhere': give HOST:PORT"),
    ],
)
def test_addresses_that_cannot_be_joined(address: str, text: str) -> None:
    with pytest.raises(InputError, match=text):
        enter(address, 1, 10**8)


def test_without_ray(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "ray", None)
    with pytest.raises(MissingError, match=r"pip install 'optc\[cluster\]'"):
        RayEngine(tmp_path, chain(tmp_path))


def test_sigterm_ends_in_order() -> None:
    process = subprocess.Popen(
        [sys.executable, "-c", TERMINATED], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    )
    assert process.stdout is not None and process.stdout.readline() == "on\n"
    process.terminate()
    out, err = process.communicate()
    assert (process.returncode, out, err) == (128 + signal.SIGTERM, "left\n", "")
