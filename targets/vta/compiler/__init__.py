"""The compiler: integer operations to VTA programs."""
