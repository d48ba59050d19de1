"""The VTA machine: configuration, instruction set, checker, simulators and cycle model."""
