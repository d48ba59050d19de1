"""Values through memory that two processes share."""

from __future__ import annotations

import os
import pickle
import subprocess
import sys
import threading
import time
from pathlib import Path
from typing import Any

import ml_dtypes
import numpy as np
import pytest
from ray.exceptions import RayChannelError, RayChannelTimeoutError, RayError
from ray.experimental.channel.shared_memory_channel import SharedMemoryType

from optc.models.errors import InputError
from optc.targets.cluster import ray_channel
from optc.targets.cluster.ray_channel import QuietChannel, QuietType
from optc.targets.cluster.slots import Slots
from optc.targets.cluster.worker import Failure


def pair(name: str, count: int) -> tuple[Slots, Slots]:
    """Both ends."""
    writer = Slots(name, count)
    return writer, pickle.loads(pickle.dumps(writer))


def test_values_come_in_order_and_only_when_they_are_there() -> None:
    writer, reader = pair("order", 3)
    with pytest.raises(RayChannelTimeoutError):
        reader.read(0)
    sent = 0
    for ahead in (3, 1, 2, 3, 3):
        for number in range(ahead):
            writer.write({"x": np.full(5, sent + number)})
        for number in range(ahead):
            assert reader.read(0)["x"].tolist() == [sent + number] * 5
        with pytest.raises(RayChannelTimeoutError):
            reader.read(0)
        sent += ahead
    writer.close()


def test_a_message_that_was_overwritten_is_not_waited_for() -> None:
    writer, reader = pair("ahead", 2)
    for number in range(3):
        writer.write(number)
    with pytest.raises(RuntimeError, match="overwritten"):
        reader.read(0)
    writer.close()


def test_a_slot_grows_and_what_was_read_of_the_others_stays() -> None:
    writer, reader = pair("growth", 3)
    sizes = (10, 3000, 5, 200_000, 7, 1_000_000, 200_000, 9)
    kept: list[tuple[int, Any]] = []
    for number, size in enumerate(sizes):
        writer.write([np.full(size, number), np.full(3, -number)])
        kept = [*kept[-2:], (number, reader.read(0))]
        for sent, (large, small) in kept:
            np.testing.assert_array_equal(large, np.full(sizes[sent], sent))
            np.testing.assert_array_equal(small, [-sent] * 3)
    writer.close()
    np.testing.assert_array_equal(kept[0][1][0], np.full(1_000_000, 5))


GRID = np.arange(24, dtype=np.float32).reshape(4, 6)


@pytest.mark.parametrize(
    "array",
    [
        GRID,
        np.zeros((0, 3), np.float16),
        np.array(2.5),
        GRID[:, ::2],
        np.asfortranarray(GRID),
        np.array(["a", "bcd"]),
        np.array(["a", None, 3], object),
        GRID.astype(ml_dtypes.bfloat16),
        np.array([True, False]),
    ],
)
def test_every_kind_of_array(array: np.ndarray) -> None:
    writer, reader = pair("kinds", 1)
    writer.write({"x": array, ("y", 1): None, "z": GRID})
    found = reader.read(0)
    assert found.keys() == {"x", ("y", 1), "z"} and found["y", 1] is None
    assert found["x"].dtype == array.dtype and found["x"].shape == array.shape
    np.testing.assert_array_equal(found["x"], array)
    np.testing.assert_array_equal(found["z"], GRID)
    writer.close()


def test_large_arrays_are_views_that_nobody_writes() -> None:
    writer, reader = pair("views", 1)
    writer.write([GRID[0, :3], GRID])
    for array in reader.read(0):
        assert not array.flags.writeable and array.ctypes.data % 64 == 0
    writer.close()


def test_failures_and_what_is_of_no_module() -> None:
    class Here:
        pass

    writer, reader = pair("others", 2)
    writer.write(Failure(InputError("no")))
    writer.write(Here())
    assert str(reader.read(0).error) == "no"
    assert type(reader.read(0)).__name__ == "Here"
    writer.close()


def test_a_reader_that_waits_hears_that_it_is_closed() -> None:
    writer = QuietChannel(Slots("waiting", 1), "waiting")
    reader, copy = (pickle.loads(pickle.dumps(writer)) for _ in range(2))
    caught: list[Exception] = []

    def wait() -> None:
        try:
            reader.read()
        except RayChannelError as error:
            caught.append(error)

    thread = threading.Thread(target=wait, daemon=True)
    thread.start()
    time.sleep(0.05)
    copy.close()
    copy.close()
    thread.join(10)
    assert len(caught) == 1
    with pytest.raises(RayChannelError):
        writer.write(1)


def test_closing_leaves_no_open_file() -> None:
    before = len(os.listdir("/proc/self/fd"))
    writer, reader = pair("files", 2)
    writer.write(GRID)
    reader.read(0)
    assert len(os.listdir("/proc/self/fd")) > before
    writer.close()
    reader.close()
    assert len(os.listdir("/proc/self/fd")) == before


def test_a_closed_channel_does_not_grow() -> None:
    writer, reader = pair("closed", 1)
    reader.close()
    with pytest.raises(RayChannelError, match="closed"):
        writer.write(1)


def test_without_memory(monkeypatch: pytest.MonkeyPatch) -> None:
    def full(file: int, size: int) -> None:
        raise OSError(12, "Cannot allocate memory")

    writer, _ = pair("full", 1)
    with monkeypatch.context() as patch:
        patch.setattr(os, "truncate", full)
        with pytest.raises(RayError, match="no memory for a message of [0-9]+ bytes: Cannot allocate"):
            writer.write(np.zeros(9))
    writer.close()


def test_nothing_comes_from_a_writer_that_is_gone_and_nothing_is_left_of_it() -> None:
    script = "import pickle; from optc.targets.cluster.slots import Slots; s = Slots('gone', 2); s.write(1)"
    script += "; print(pickle.dumps(s).hex())"
    result = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    reader = pickle.loads(bytes.fromhex(result.stdout))
    with pytest.raises(RayChannelTimeoutError, match="gone"):
        reader.read(0)
    assert not [file for file in Path("/dev/shm").iterdir() if "gone" in file.name]


@pytest.mark.parametrize(
    ("readers", "ordered", "own"),
    [
        ([("b", "here")], True, True),
        ([("b", "there")], True, False),
        ([("a", "here")], True, False),
        ([("b", "here"), ("c", "here")], True, False),
        ([("b", "here")], False, False),
    ],
)
def test_which_channels_are_such(
    readers: list[tuple[str, str]], ordered: bool, own: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(ray_channel, "get_actor_node", lambda actor: "here")
    monkeypatch.setattr(ray_channel, "ORDERED", ordered)
    monkeypatch.setattr(SharedMemoryType, "create_channel", lambda *given: given[1:])
    found = QuietType(num_shm_buffers=3).create_channel("a", readers, None)._channel
    if own:
        assert isinstance(found, Slots)
        found.close()
    else:
        assert found == ("a", readers, None)
