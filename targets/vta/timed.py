"""The timed simulator: the functional one, with the cycles of the timing model."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from optc.targets.vta.config import Config
from optc.targets.vta.sim import MEMORY_BYTES, Fsim
from optc.targets.vta.timing import PYNQ, Report, Timing, simulate


class Timed:
    """A `Device` that counts cycles; `report` is what the timing model said of the last run."""

    def __init__(self, config: Config, timing: Timing = PYNQ, memory_bytes: int = MEMORY_BYTES) -> None:
        self.config, self.timing = config, timing
        self.report: Report | None = None
        self._functional = Fsim(config, memory_bytes)

    def write(self, address: int, data: NDArray[np.uint8]) -> None:
        """As `Device.write`."""
        self._functional.write(address, data)

    def read(self, address: int, size: int) -> NDArray[np.uint8]:
        """As `Device.read`."""
        return self._functional.read(address, size)

    def run(self, address: int, count: int) -> int:
        """As `Device.run`."""
        instructions = self._functional.fetch(address, count)
        self._functional.execute(instructions)
        self.report = simulate(instructions, self.config, self.timing)
        return self.report.cycles
