"""Ranks between which tensors stay on GPUs: the graph and the order of its steps, without a GPU.

That NCCL delivers is checked on GPUs, by `benchmarks/partition_gpu.py`.
"""

from __future__ import annotations

import os
import signal
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import onnx
import pytest
from ray_programs import SPREAD, chain, feeds, spread, spread_case

from optc.models.errors import InputError
from optc.models.model import Model
from optc.targets.base import DeviceRunner
from optc.targets.cluster import gpu_tensors, ray_graph
from optc.targets.cluster.ray_channel import QuietType
from optc.targets.cluster.ray_engine import RayEngine
from optc.targets.cluster.ray_replica import Replica
from optc.targets.cluster.ray_start import enter
from optc.targets.cpu import Cpu


@pytest.fixture(scope="module", autouse=True)
def ray_here() -> Iterator[None]:
    leave = enter(None, processes=4, memory=2**29)
    yield
    leave()


@pytest.fixture
def all_on_gpus(monkeypatch: pytest.MonkeyPatch) -> None:
    """Every rank counts as on a GPU, and what goes between them goes through the host all the same."""
    monkeypatch.setattr(Replica, "_between_gpus", lambda self: frozenset(self.processes))
    monkeypatch.setattr(ray_graph, "_gpu_type", lambda count: QuietType(num_shm_buffers=count))


def test_stages(all_on_gpus: None, tmp_path: Path) -> None:
    with RayEngine(tmp_path, chain(tmp_path)) as engine:
        answers = list(engine.run(feeds(50)))
        assert [float(a["y"][0, 0]) for a in answers] == [-float(n) for n in range(50)]  # type: ignore[index]
        assert [m.nccl for m in engine.metrics().ranks] == [True, True]


@pytest.mark.parametrize("name", SPREAD)
def test_collectives(name: str, all_on_gpus: None, tmp_path: Path) -> None:
    inputs, wanted = spread_case(name)
    with RayEngine(tmp_path, spread(tmp_path, SPREAD[name])) as engine:
        for answer in engine.run([inputs] * 5):
            assert isinstance(answer, dict)
            for output, array in wanted.items():
                np.testing.assert_array_equal(answer[output], array)


def test_a_request_that_a_part_refuses(all_on_gpus: None, tmp_path: Path) -> None:
    given = feeds(5)
    given[2]["x"] = given[2]["x"][0]
    with RayEngine(tmp_path, chain(tmp_path)) as engine:
        answers = list(engine.run(given))
    assert [type(a) for a in answers] == [dict, dict, InputError, dict, dict]
    assert "rank 0, part 'one'" in str(answers[2])


@pytest.mark.parametrize("rank", [0, 1])
def test_a_rank_that_is_killed(rank: int, all_on_gpus: None, tmp_path: Path) -> None:
    found = []
    with RayEngine(tmp_path, chain(tmp_path)) as engine:
        for number, answer in enumerate(engine.run(feeds(30))):
            if number == 3:
                os.kill(engine.metrics().ranks[rank].process, signal.SIGKILL)
            found.append(float(answer["y"][0, 0]))  # type: ignore[index]
        assert engine.metrics().restarts == 1
    assert found == [-float(n) for n in range(30)]


def test_a_program_leaves_its_outputs_where_they_are(tmp_path: Path) -> None:
    text = """<ir_version: 8, opset_import: ["": 17]>
    g (float[2,3] x, bool[3] c) => (float[2,3] y, bool[3] n) { y = Where(c, x, x) n = Not(c) }"""
    artifact = Cpu().build(Model(onnx.parser.parse_model(text)), _new(tmp_path / "m.cpu"))
    runner = artifact.runner()
    assert isinstance(runner, DeviceRunner) and runner.device == "cpu" and not gpu_tensors.on_gpu(runner)
    given = {"x": np.arange(6, dtype=np.float32).reshape(2, 3), "c": np.array([True, False, True])}
    wanted = runner.run(given)
    once = runner.run_on_device(given)
    assert not isinstance(once["y"], np.ndarray)
    twice = runner.run_on_device({"x": once["y"], "c": once["n"]})
    for name in wanted:
        np.testing.assert_array_equal(np.from_dlpack(once[name]), wanted[name])
    np.testing.assert_array_equal(np.from_dlpack(twice["y"]), wanted["y"])
    np.testing.assert_array_equal(np.from_dlpack(twice["n"]), given["c"])
    with pytest.raises(InputError, match=r"input 'x' takes float32, not bool"):
        runner.run_on_device({"x": once["n"], "c": once["n"]})
    with pytest.raises(InputError, match=r"input 'c' takes shape \[3\], the array has \[2, 3\]"):
        runner.run_on_device({"x": once["y"], "c": np.ones((2, 3), bool)})


def _new(folder: Path) -> Path:
    folder.mkdir()
    return folder


@pytest.mark.parametrize("name", SPREAD)
def test_pieces_that_are_tensors_join_as_arrays_do(name: str) -> None:
    torch = pytest.importorskip("torch")
    collective = SPREAD[name]
    inputs, _ = spread_case(name)
    given = [inputs["x0"], inputs["x1"]]
    for to in (0, 1):
        arrays = [collective.piece(place, to, value) for place, value in enumerate(given)]
        tensors = [collective.piece(place, to, torch.from_numpy(v)) for place, v in enumerate(given)]
        wanted = collective.join(arrays)
        found = gpu_tensors.join(collective, tensors)
        assert isinstance(found, torch.Tensor)
        np.testing.assert_array_equal(gpu_tensors.to_host(found), wanted)
        mixed = [arrays[0], *tensors[1:]]
        np.testing.assert_array_equal(gpu_tensors.join(collective, mixed), wanted)
