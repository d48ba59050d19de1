from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from optc.passes.partition.partition import Partition
from optc.targets.cluster.check import local_engine
from optc.targets.cluster.partition import partition
from optc.targets.cluster.ray_engine import RayEngine


@pytest.mark.slow
@pytest.mark.parametrize("target", ["cpu", "vta", "onnxruntime{optimize=false}"])
@pytest.mark.parametrize("degrees", [{"stages": 3}, {"data": 2, "stages": 2}])
def test_ranks_of_any_target_give_on_ray_what_they_give_here(
    target: str, degrees: dict[str, int], tmp_path: Path
) -> None:
    how = Partition(data=degrees.get("data", 1), stages=degrees["stages"])
    plan = partition("zoo:fashion-resnet", target, how, out=tmp_path / "plan").plan
    rng = np.random.default_rng(0)
    requests = [{"image": rng.random((1, 1, 28, 28), np.float32)} for _ in range(5)]
    wanted = list(local_engine(plan).run(requests))
    with RayEngine(plan.folder, plan.program, plan.replicas) as engine:
        found = list(engine.run(requests))
    for want, got in zip(wanted, found, strict=True):
        assert isinstance(got, dict), got
        np.testing.assert_equal(got, want)
