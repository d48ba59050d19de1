"""Networks of several operations: every code equal to the reference, in program order and in random ones."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from drawn import quantized_networks
from graphs import Network, networks
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from qdq import feeds
from regions_of import PAIRS, SMALL, TINY, assert_equal, compiled

from optc.models.model import Model
from optc.passes.quantize.integer.execute import Reference
from optc.targets.vta.vta import Vta

SLOW = settings(
    deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow]
)


@settings(SLOW, max_examples=25)
@given(
    model=quantized_networks(),
    config=st.sampled_from([None, SMALL, TINY, PAIRS]),
    every=st.booleans(),
    seed=st.integers(0, 2**16),
)
def test_drawn_networks(model: Model, config: Any, every: bool, seed: int) -> None:
    assert_equal(compiled(model, config, every), feeds(model, seed), seed)


@pytest.mark.slow
@settings(SLOW, max_examples=400)
@given(
    model=quantized_networks(),
    config=st.sampled_from([None, SMALL, TINY, PAIRS]),
    every=st.booleans(),
    seed=st.integers(0, 2**16),
)
def test_many_drawn_networks(model: Model, config: Any, every: bool, seed: int) -> None:
    assert_equal(compiled(model, config, every), feeds(model, seed), seed)


OPTIONS = st.fixed_dictionaries(
    {
        "activations": st.just("int8"),
        "scales": st.just("pow2"),
        "rounding": st.sampled_from(["even", "half_up"]),
        "residual": st.sampled_from(["code", "accumulator"]),
        "per_channel": st.booleans(),
    }
)


@settings(SLOW, max_examples=25)
@given(network=networks(), options=OPTIONS, config=st.sampled_from([None, SMALL, TINY, PAIRS]))
def test_networks_that_optc_quantizes(
    network: Network, options: dict[str, Any], config: Any, tmp_path_factory: pytest.TempPathFactory
) -> None:
    model = network.quantized(tmp_path_factory.mktemp("network"), **options)
    assert_equal(compiled(model, config), network.feeds())


@settings(SLOW, max_examples=6)
@given(model=quantized_networks(batch="N"), config=st.sampled_from([None, SMALL]))
def test_artifacts(model: Model, config: Any, tmp_path_factory: pytest.TempPathFactory) -> None:
    """Through the whole lowering: host code, regions, batches of several samples."""
    folder: Path = tmp_path_factory.mktemp("artifact")
    (folder / "config.json").write_text(config.to_json() if config else "{}")
    (folder / "a").mkdir()
    artifact = Vta(config=str(folder / "config.json")).build(model, folder / "a")
    for batch in (1, 3):
        given_feeds = feeds(model, batch, batch)
        wanted = Reference(model).run(given_feeds)
        for name, found in artifact.run(given_feeds).items():
            np.testing.assert_array_equal(found, wanted[name])
