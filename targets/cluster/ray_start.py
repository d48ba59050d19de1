"""Ray itself: started for this process alone, or joined where it runs already, and left again."""

from __future__ import annotations

import atexit
import logging
import os
import shutil
import signal
import socket
import sys
import tempfile
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

from optc.models.errors import InputError, MissingError
from optc.models.session import first_line
from optc.targets.lowering.quiet import quiet

PATIENCE = 15.0
"""How many seconds a cluster has to answer who joins it."""

Leave = Callable[[], None]


def import_ray() -> Any:
    """Ray; `MissingError` where it is not installed."""
    os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
    os.environ.setdefault("RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO", "0")
    try:
        import ray
    except ImportError as error:
        raise MissingError("Ray is not installed; pip install 'optc[cluster]'") from error
    return ray


def enter(address: str | None, processes: int, memory: int) -> Leave:
    """Have Ray run, and return how to leave it again.

    With `address` ("auto" or HOST:PORT) the cluster there is joined, and goes on after; where Ray runs in
    this process already, it is used as it is. Else Ray is started on this machine, for `processes` actors
    and with an object store of `memory` bytes, and leaving stops it. `InputError` where it does not start.
    """
    ray = import_ray()
    if ray.is_initialized():
        return lambda: None
    # Ray tells of a dead actor on standard output, where our own output goes; the engine tells of it better.
    worker, told = ray._private.worker, ray._private.worker.print_to_stdstream
    worker.print_to_stdstream = lambda *args, **kwargs: None

    def end() -> None:
        ray.shutdown()
        worker.print_to_stdstream = told

    if address is not None:
        _join(ray, address)
        return end
    folder = tempfile.mkdtemp(prefix="optc-ray-")
    # Interrupted while it starts, Ray ends its processes at exit; what was registered before that runs after.
    atexit.register(shutil.rmtree, folder, ignore_errors=True)
    try:
        with quiet():
            ray.init(
                address="local",
                num_cpus=processes,
                object_store_memory=memory,
                include_dashboard=False,
                log_to_driver=False,
                logging_level=logging.CRITICAL,
                _temp_dir=folder,
            )
    except Exception as error:
        shutil.rmtree(folder, ignore_errors=True)
        raise InputError(f"Ray does not start here: {first_line(error)}") from error
    store = _raylet()
    restore = _end_on_sigterm()

    def leave() -> None:
        end()
        restore()
        shutil.rmtree(folder, ignore_errors=True)
        for kind in ("hdr", "obj"):
            for file in Path("/dev/shm").glob(f"sem.{kind}{store}-*"):
                file.unlink(missing_ok=True)

    return leave


def _end_on_sigterm() -> Leave:
    """Let SIGTERM end this process in order, where Ray would print its stack; returns how to undo that."""
    if threading.current_thread() is not threading.main_thread():
        return lambda: None

    def end(number: int, _: object) -> None:
        sys.exit(128 + number)

    before = signal.signal(signal.SIGTERM, end)

    def restore() -> None:
        signal.signal(signal.SIGTERM, before)

    return restore


def _raylet() -> int | None:
    """Our child, the raylet, after which the semaphores are named that Ray leaves in /dev/shm."""
    for status in Path("/proc").glob("[0-9]*/stat"):
        try:
            pid, _, rest = status.read_text().partition(" (")
        except OSError:
            continue
        name, _, fields = rest.rpartition(") ")
        if name == "raylet" and int(fields.split()[1]) == os.getpid():
            return int(pid)
    return None


def _join(ray: Any, address: str) -> None:
    """Join a cluster within `PATIENCE` seconds, or `InputError`."""
    host, _, port = address.rpartition(":")
    if "://" in address or address != "auto" and not (host and port.isdigit()):
        raise InputError(f"address '{address}': give HOST:PORT of the cluster's head, or auto")
    if address != "auto":
        try:
            socket.create_connection((host, int(port)), timeout=5).close()
        except OSError as error:
            raise InputError(
                f"no cluster at {address}: {error.strerror or error}; is its head running?"
            ) from error
    failed: list[BaseException] = []

    def connect() -> None:
        try:
            ray.init(address=address, log_to_driver=False, logging_level=logging.CRITICAL)
        except BaseException as error:
            failed.append(error)

    thread = threading.Thread(target=connect, daemon=True)
    with quiet():
        thread.start()
        thread.join(PATIENCE)
    if thread.is_alive():
        raise InputError(
            f"no cluster at {address} answers: is it Ray, and with the RAY_AUTH_MODE that is set here?"
        )
    if failed:
        raise InputError(f"the cluster at {address} cannot be joined: {first_line(failed[0])}") from failed[0]
