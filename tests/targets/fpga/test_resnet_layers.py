"""A layer of ResNet-18 of each shape, as the compiler makes it: the RTL beside the functional simulator."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from machines import needs_rtl
from qdq import Qdq, codes, feeds
from regions_of import compiled

from optc.passes.quantize.integer.execute import Reference
from optc.targets.fpga.rtlsim import RtlSim
from optc.targets.vta import regions
from optc.targets.vta.config import Config
from optc.targets.vta.device import Device
from optc.targets.vta.sim import Fsim

pytestmark = needs_rtl
LAYERS = {
    "conv1": (3, 64, 224, 7, 2),
    "layer1": (64, 64, 56, 3, 1),
    "layer2, first": (64, 128, 56, 3, 2),
    "layer2, shortcut": (64, 128, 56, 1, 2),
    "layer2": (128, 128, 28, 3, 1),
    "layer3, first": (128, 256, 28, 3, 2),
    "layer3, shortcut": (128, 256, 28, 1, 2),
    "layer3": (256, 256, 14, 3, 1),
    "layer4, first": (256, 512, 14, 3, 2),
    "layer4, shortcut": (256, 512, 14, 1, 2),
    "layer4": (512, 512, 7, 3, 1),
}
"""Channels, output channels, height and width, kernel, stride; padded so that the kernel is centred."""


@pytest.mark.parametrize("name", LAYERS)
def test_a_layer(name: str, tmp_path: Path) -> None:
    channels, out, size, kernel, stride = LAYERS[name]
    noise, net = np.random.default_rng(1), Qdq()
    value = net.input((1, channels, size, size))
    weight = codes(noise, (out, channels, kernel, kernel))
    bias = noise.integers(-1000, 1001, out).astype(np.int32)
    options: dict[str, Any] = {"strides": [stride] * 2, "pads": [kernel // 2] * 4}
    found = net.node("Relu", [net.layer("Conv", value, weight, -12, bias, **options)])
    model = net.model(net.code(found, 0))
    programs = compiled(model).programs
    values = Reference(model).trace(feeds(model))
    loaded = [regions.Region.load(tmp_path, e, Config()) for e in regions.save(programs, tmp_path)]
    assert loaded
    end = max(region.end for region in loaded)
    devices: list[Device] = [Fsim(Config(), end), RtlSim(Config(), end)]
    for device in devices:
        for region in loaded:
            region.install(device)
            outputs, _ = region.call(device, [values[n] for n in region.arguments])
            for place, got in zip(region.outputs, outputs, strict=True):
                np.testing.assert_array_equal(got, values[place.value])
    images = [device.read(0, end) for device in devices]
    np.testing.assert_array_equal(*images)
